-- Gap-free numbers are allocated when bills are issued, in the same transaction (R094): a
-- sequence would leave gaps. One row per series; its lock is the queue.
CREATE TABLE bill_number_series (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 32),
    next_number bigint NOT NULL CHECK (next_number > 0)
);
