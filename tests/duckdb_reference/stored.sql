-- Rows that are equal in everything are one; of a user's UTC day the first so many stay. The order is total: time, then every
-- other column, null first.
SELECT *
FROM (SELECT DISTINCT ${columns} FROM ${typed})
QUALIFY row_number() OVER (PARTITION BY user_id, event_us // 86400000000 ORDER BY ${oldest_first}) <= ${most_a_day}
