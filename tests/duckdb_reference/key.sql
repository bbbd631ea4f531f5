${kind}s AS (
    SELECT
        user_id,
        ${counts}
    FROM (SELECT user_id, ${column}, max(event_us) AS newest_us FROM observed WHERE ${column} IS NOT NULL GROUP BY ALL)
    GROUP BY user_id
)
