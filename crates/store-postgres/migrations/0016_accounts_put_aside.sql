-- Outsort, don't stop (decision 9): an account that cannot be billed waits here with its reason;
-- one that rightly gets no bill is excused with its reason. billed + held + excused = active.
CREATE TABLE held_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts,
    cycle_id bigint NOT NULL REFERENCES cycles,
    run_id bigint NOT NULL REFERENCES bill_runs,
    reason_code text NOT NULL CHECK (length(reason_code) BETWEEN 1 AND 64),
    message text NOT NULL CHECK (length(message) <= 2000),
    held_at timestamptz NOT NULL,
    released_at timestamptz,
    -- Why it no longer waits: `billed`, `excused`, or a clerk's words.
    released_because text CHECK (length(released_because) BETWEEN 1 AND 500),
    CHECK ((released_at IS NULL) = (released_because IS NULL))
);
CREATE UNIQUE INDEX an_account_waits_once_per_cycle
    ON held_accounts (account_id, cycle_id) WHERE released_at IS NULL;
CREATE INDEX held_in_a_cycle ON held_accounts (cycle_id) WHERE released_at IS NULL;

CREATE TABLE excused_accounts (
    account_id bigint NOT NULL REFERENCES accounts,
    cycle_id bigint NOT NULL REFERENCES cycles,
    run_id bigint NOT NULL REFERENCES bill_runs,
    reason_code text NOT NULL CHECK (length(reason_code) BETWEEN 1 AND 64),
    PRIMARY KEY (cycle_id, account_id)
);
