COPY (
    FROM (${behaviour})
    JOIN (SELECT * EXCLUDE (event_timestamp) FROM (${labels})) USING (user_id)
) TO '${target}' (COMPRESSION zstd, ROW_GROUP_SIZE 16384)
