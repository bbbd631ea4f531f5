-- Each event once: of a user's stored rows with one event_id the earliest stays.
SELECT *
FROM ${stored}
QUALIFY ${event_id} IS NULL OR row_number() OVER (PARTITION BY user_id, ${event_id} ORDER BY ${oldest_first}) = 1
