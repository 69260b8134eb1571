-- One row per stored run of uplinks, inserted after everything else of the run: the commit marker.
-- Resume position and totals come from here. Of two runs that begin alike the longer one stays.
CREATE TABLE IF NOT EXISTS ingest_ledger (
    stream LowCardinality(String) CODEC(ZSTD(1)),
    epoch UInt64 CODEC(ZSTD(1)),
    first_sequence UInt64 CODEC(Delta, ZSTD(1)),
    next_sequence UInt64 CODEC(Delta, ZSTD(1)),
    received UInt64 CODEC(ZSTD(1)),
    stored UInt64 CODEC(ZSTD(1)),
    duplicate UInt64 CODEC(ZSTD(1)),
    rejected UInt64 CODEC(ZSTD(1)),
    stored_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    CONSTRAINT uplinks_end_once CHECK received = stored + duplicate + rejected
) ENGINE = ReplacingMergeTree(next_sequence)
ORDER BY (stream, epoch, first_sequence)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
