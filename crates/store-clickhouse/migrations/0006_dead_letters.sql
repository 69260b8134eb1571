-- What could not be turned into reads, with all that is needed to try again. Rows are never
-- changed; what became of a letter stands in dead_letter_replays.
CREATE TABLE IF NOT EXISTS dead_letters (
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    frame_offset Nullable(UInt32) CODEC(ZSTD(1)),
    raw String CODEC(ZSTD(1)),
    source String CODEC(ZSTD(1)),
    device String CODEC(ZSTD(1)),
    codec LowCardinality(String) CODEC(ZSTD(1)),
    codec_version UInt16 CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Milli(stored_at)))
        CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
ORDER BY (stream, epoch, sequence, reason)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
