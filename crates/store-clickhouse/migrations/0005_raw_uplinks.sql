-- Every uplink as it came, for 30 days, so that it can be decoded again after a decoder was put
-- right. Meter 0 is one that could not be identified.
CREATE TABLE IF NOT EXISTS raw_uplinks (
    meter UInt32 CODEC(ZSTD(1)),
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    device String CODEC(ZSTD(1)),
    network LowCardinality(String) CODEC(ZSTD(1)),
    envelope String CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    gateway Nullable(UInt64) CODEC(ZSTD(1)),
    rssi_dbm Nullable(Int16) CODEC(ZSTD(1)),
    snr_tenths Nullable(Int16) CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX sequence_range sequence TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(stored_at)
ORDER BY (meter, stream, epoch, sequence)
TTL toDateTime(stored_at) + INTERVAL 30 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0, ttl_only_drop_parts = 1
