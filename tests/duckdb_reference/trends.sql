${kind}_traffic AS (
    SELECT
        value,
        ln((count(*) FILTER (days_ago < 7) + 1) / 7 / ((count(*) FILTER (days_ago >= 7) + 4) / 28)) AS trend,
        ln(1 + count(*) FILTER (days_ago < 28)) AS popularity
    FROM (
        SELECT DISTINCT user_id, ${column} AS value, (${cutoff_us} - event_us - 1) // 86400000000 AS days_ago
        FROM ${stored}
        WHERE event_us >= ${cutoff_us} - 35 * 86400000000 AND event_us < ${cutoff_us} AND ${column} IS NOT NULL
    )
    GROUP BY value
),

${kind}_trends AS (
    SELECT
        user_id,
        avg(trend) AS ${kind}_trend_mean,
        avg(popularity) AS ${kind}_popularity_mean
    FROM observed
    JOIN ${kind}_traffic ON ${column} = value
    WHERE days_ago < 28
    GROUP BY user_id
)