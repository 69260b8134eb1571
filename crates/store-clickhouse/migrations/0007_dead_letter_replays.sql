-- A dead letter was replayed; only ever added to.
CREATE TABLE IF NOT EXISTS dead_letter_replays (
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    reason LowCardinality(String) CODEC(ZSTD(1)),
    replayed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree
ORDER BY (stream, epoch, sequence, reason, replayed_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
