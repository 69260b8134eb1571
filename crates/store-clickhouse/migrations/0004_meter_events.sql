-- One row per meter, kind, instant and status word, whatever path it came by.
CREATE TABLE IF NOT EXISTS meter_events (
    meter UInt32 CODEC(ZSTD(1)),
    kind UInt8 CODEC(ZSTD(1)),
    at DateTime('UTC') CODEC(Delta, ZSTD(1)),
    detail UInt64 CODEC(ZSTD(1)),
    received_at DateTime('UTC') CODEC(Delta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    version UInt64 MATERIALIZED
        bitNot(bitShiftLeft(toUInt64(toUnixTimestamp64Milli(stored_at)), 20) + sequence % 1048576)
        CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
ORDER BY (meter, at, kind, detail)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
