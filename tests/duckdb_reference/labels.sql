-- One row a user with an event in [since, cutoff): what came of the user in each task's window.
WITH known AS (
    SELECT DISTINCT user_id
    FROM ${settled}
    WHERE event_us >= ${since_us} AND event_us < ${cutoff_us}
),

after AS (
    SELECT *, ${cents} AS cents
    FROM ${settled}
    WHERE event_us >= ${cutoff_us} AND event_us < ${until_us}
),

outcomes AS (
    SELECT
        user_id,
        ${outcomes}
    FROM after
    GROUP BY user_id
)

SELECT
    user_id,
    make_timestamp(${cutoff_us})::TIMESTAMPTZ AS event_timestamp,
    ${labels}
FROM known
LEFT JOIN outcomes USING (user_id)
