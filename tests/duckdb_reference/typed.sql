-- The owner's valid rows under our names and types; what would go to quarantine is left out.
WITH named AS (
    SELECT
        ${named}
    FROM ${raw}
),

judged AS (
    SELECT
        *,
        ${kind} AS kind,
        coalesce(kind = 'return' OR (kind = 'purchase' AND units < 0 AND ${has_returns}), FALSE) AS is_refund,
        ${money} AS money
    FROM named
)

SELECT
    user_id,
    event_us,
    CASE WHEN is_refund THEN 'return' ELSE kind END AS event_type,
    ${columns}
FROM judged
WHERE
    user_id IS NOT NULL
    AND event_us BETWEEN ${earliest_us} AND ${latest_us}
    AND kind IS NOT NULL
    AND (units IS NULL OR (isfinite(units) AND abs(units) <= 1e12 AND (units >= 0 OR is_refund)))
    AND (price IS NULL OR (isfinite(price) AND abs(money) <= 1e12 AND (price >= 0 OR is_refund)))
