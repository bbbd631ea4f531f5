-- One row a user with an event in [since, cutoff): sequences of the last events, and aggregates.
WITH observed AS (
    SELECT
        *,
        row_number() OVER newest_first AS place,
        lead(event_us) OVER newest_first AS previous_us,
        -- 0 for the 24 hours before the cutoff, 1 for those before them
        (${cutoff_us} - event_us - 1) // 86400000000 AS days_ago,
        ${cents} AS cents,
        ${order_key} AS order_key
    FROM ${settled}
    WHERE event_us >= ${since_us} AND event_us < ${cutoff_us}
    WINDOW newest_first AS (PARTITION BY user_id ORDER BY ${newest_first})
),

sequences AS (
    SELECT
        user_id,
        ${sequences},
        count(*)::INTEGER AS sequence_length
    FROM observed
    WHERE place <= ${length}
    GROUP BY user_id
),

-- A user's session without an id ends where a pause begins; n pauses inside a window part it into n + 1 sessions.
sums AS (
    SELECT
        user_id,
        ${sums}
    FROM observed
    GROUP BY user_id
),

active_days AS (
    SELECT
        user_id,
        days_ago,
        lead(days_ago) OVER (PARTITION BY user_id ORDER BY days_ago) - days_ago AS gap
    FROM (SELECT DISTINCT user_id, days_ago FROM observed)
),

days AS (
    SELECT
        user_id,
        ${active_days},
        avg(gap) AS gap_mean_days,
        sqrt((count(gap) * sum(gap * gap) - sum(gap) * sum(gap))::DOUBLE) / nullif(count(gap), 0) AS gap_std_days
    FROM active_days
    GROUP BY user_id
),

-- A key (an order, an item, ...) lies in a window if it was last seen there.
${keys}

SELECT
    user_id,
    make_timestamp(${cutoff_us})::TIMESTAMPTZ AS event_timestamp,
    ${fields}
FROM sequences
JOIN sums USING (user_id)
JOIN days USING (user_id)
${joins}
