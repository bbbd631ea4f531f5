-- As tests/duckdb_reference/settled.sql, faster: days above the limit are few, and so are event ids that are there twice;
-- only for these are rows put in order. Every event has an id here, so no other rows are equal.
CREATE TEMP TABLE crowded AS
SELECT user_id, event_us // 86400000000 AS day
FROM typed
GROUP BY ALL
HAVING count(*) > ${most_a_day};

CREATE TEMP VIEW capped AS
SELECT typed.*
FROM typed
ANTI JOIN crowded ON typed.user_id = crowded.user_id AND typed.event_us // 86400000000 = crowded.day
UNION ALL
SELECT *
FROM (
    SELECT DISTINCT typed.*
    FROM typed
    SEMI JOIN crowded ON typed.user_id = crowded.user_id AND typed.event_us // 86400000000 = crowded.day
)
QUALIFY row_number() OVER (PARTITION BY user_id, event_us // 86400000000 ORDER BY ${oldest_first}) <= ${most_a_day};

CREATE TEMP TABLE repeated AS
SELECT user_id, event_id
FROM capped
GROUP BY ALL
HAVING count(*) > 1;

CREATE TEMP TABLE settled AS
SELECT capped.* EXCLUDE (event_id), NULL::VARCHAR AS event_id
FROM capped
ANTI JOIN repeated USING (user_id, event_id)
UNION ALL
SELECT * EXCLUDE (event_id), NULL::VARCHAR AS event_id
FROM (SELECT capped.* FROM capped SEMI JOIN repeated USING (user_id, event_id))
QUALIFY row_number() OVER (PARTITION BY user_id, event_id ORDER BY ${oldest_first}) = 1;

DROP VIEW capped;
DROP TABLE typed;
