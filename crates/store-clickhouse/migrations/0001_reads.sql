-- One read per meter, register and second of measurement. The highest version stays, and the
-- version falls with the time of storing and then with the sequence: the first stored stays.
CREATE TABLE IF NOT EXISTS reads (
    meter UInt32 CODEC(ZSTD(1)),
    register UInt32 CODEC(ZSTD(1)),
    measured_at DateTime('UTC') CODEC(Delta, ZSTD(1)),
    count Int64 CODEC(Delta, ZSTD(1)),
    exponent Int8 CODEC(ZSTD(1)),
    unit UInt8 CODEC(ZSTD(1)),
    quality UInt8 CODEC(ZSTD(1)),
    verdict UInt8 CODEC(ZSTD(1)),
    rules UInt64 CODEC(ZSTD(1)),
    received_at DateTime('UTC') CODEC(Delta, ZSTD(1)),
    stored_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    codec LowCardinality(String) CODEC(ZSTD(1)),
    codec_version UInt16 CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    version UInt64 MATERIALIZED
        bitNot(bitShiftLeft(toUInt64(toUnixTimestamp64Milli(stored_at)), 20) + sequence % 1048576)
        CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(measured_at)
ORDER BY (meter, register, measured_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
