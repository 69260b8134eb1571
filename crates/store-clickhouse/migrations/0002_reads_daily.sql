-- The last accepted read of each register and local day. A maximum of tuples: adding the same
-- read twice changes nothing. A day ends with its midnight, so that the read at 00:00:00 closes
-- the day before: "last read up to a local midnight" is then the last of whole days.
CREATE TABLE IF NOT EXISTS reads_daily (
    day Date CODEC(ZSTD(1)),
    meter UInt32 CODEC(Delta, ZSTD(1)),
    register UInt32 CODEC(ZSTD(1)),
    last SimpleAggregateFunction(max, Tuple(
        measured_at DateTime('UTC'),
        version UInt64,
        count Int64,
        exponent Int8,
        unit UInt8,
        quality UInt8,
        stored_at DateTime64(3, 'UTC')
    )) CODEC(ZSTD(1))
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (meter, register, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1,
    old_parts_lifetime = 480, non_replicated_deduplication_window = 0
