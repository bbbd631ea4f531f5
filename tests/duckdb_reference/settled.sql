-- Each event once: rows that are equal in everything are one; of a user's UTC day the first so many stay; of a user's rows
-- with one event_id the earliest stays. The order is total: time, then every other column, null first.
WITH different AS (
    SELECT DISTINCT ${columns}
    FROM ${typed}
),

capped AS (
    SELECT *
    FROM different
    QUALIFY row_number() OVER (PARTITION BY user_id, event_us // 86400000000 ORDER BY ${oldest_first}) <= ${most_a_day}
)

SELECT *
FROM capped
QUALIFY ${event_id} IS NULL OR row_number() OVER (PARTITION BY user_id, ${event_id} ORDER BY ${oldest_first}) = 1
