-- A bill: the segments of one account under one number. At most one live bill per account, cycle
-- and kind, so a run may be killed and repeated at will (decision 8). The id follows from what
-- the bill is for.
CREATE TABLE bills (
    id uuid PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts,
    cycle_id bigint NOT NULL REFERENCES cycles,
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    revision integer NOT NULL CHECK (revision BETWEEN 0 AND 65535),
    state text NOT NULL CHECK (state IN ('draft', 'issued', 'cancelled')),
    total numeric NOT NULL,
    run_id bigint NOT NULL REFERENCES bill_runs,
    number text UNIQUE,
    issued_on date,
    cancelled_on date,
    cancel_reason text CHECK (length(cancel_reason) BETWEEN 1 AND 500),
    UNIQUE (account_id, cycle_id, kind, revision),
    CONSTRAINT a_number_belongs_to_an_issued_bill CHECK (
        (state = 'draft') = (number IS NULL) AND (number IS NULL) = (issued_on IS NULL)),
    CONSTRAINT a_cancelled_bill_says_why CHECK (
        (state = 'cancelled') = (cancelled_on IS NOT NULL)
        AND (cancelled_on IS NULL) = (cancel_reason IS NULL))
);
CREATE UNIQUE INDEX one_live_bill_per_account_cycle_and_kind
    ON bills (account_id, cycle_id, kind) WHERE state <> 'cancelled';
CREATE INDEX bills_of_a_cycle ON bills (cycle_id);

-- The charge lines of one agreement for one service period. Version and hash stand together, so
-- the hash is the one of that version's text (R004).
ALTER TABLE rate_versions ADD UNIQUE (id, hash);
CREATE TABLE bill_segments (
    bill_id uuid NOT NULL REFERENCES bills,
    segment_no smallint NOT NULL CHECK (segment_no > 0),
    agreement_id bigint NOT NULL REFERENCES service_agreements,
    service_from date NOT NULL,
    service_until date NOT NULL CHECK (service_until > service_from),
    version_id bigint NOT NULL,
    version_hash bytea NOT NULL,
    share_days integer,
    share_of_days integer,
    share_whole numeric,
    share_unit text,
    -- What was priced, with the reads it rests on.
    determinants jsonb NOT NULL,
    total numeric NOT NULL,
    PRIMARY KEY (bill_id, segment_no),
    FOREIGN KEY (version_id, version_hash) REFERENCES rate_versions (id, hash),
    CHECK (num_nonnulls(share_days, share_of_days, share_whole, share_unit) IN (0, 4))
);
CREATE INDEX segments_of_an_agreement ON bill_segments (agreement_id, service_from);

CREATE TABLE charge_lines (
    bill_id uuid NOT NULL,
    segment_no smallint NOT NULL,
    line_no smallint NOT NULL CHECK (line_no > 0),
    item text NOT NULL,
    ledger_account text NOT NULL,
    agency boolean NOT NULL,
    label_zh text NOT NULL,
    label_en text NOT NULL,
    currency text NOT NULL,
    clause text NOT NULL,
    tier smallint,
    quantity numeric NOT NULL,
    quantity_unit text NOT NULL,
    price numeric NOT NULL,
    price_unit text NOT NULL,
    proration_numerator bigint NOT NULL CHECK (proration_numerator BETWEEN 0 AND 4294967295),
    proration_denominator bigint NOT NULL CHECK (proration_denominator BETWEEN 1 AND 4294967295),
    -- The unrounded product and what is billed: the difference is never lost (R004).
    exact numeric NOT NULL,
    amount numeric NOT NULL,
    service_from date NOT NULL,
    service_until date NOT NULL CHECK (service_until > service_from),
    version_from date NOT NULL,
    working text NOT NULL,
    PRIMARY KEY (bill_id, segment_no, line_no),
    FOREIGN KEY (bill_id, segment_no) REFERENCES bill_segments
);

-- The read a bill ended with, per meter and register: the next bill opens there, and a cancelled
-- bill's reads step back by themselves.
CREATE TABLE billed_reads (
    bill_id uuid NOT NULL REFERENCES bills,
    meter_id bigint NOT NULL REFERENCES meters,
    register text NOT NULL,
    measured_at timestamptz NOT NULL,
    read jsonb NOT NULL,
    PRIMARY KEY (bill_id, meter_id, register, measured_at)
);
CREATE INDEX billed_reads_of_a_meter ON billed_reads (meter_id, register, measured_at);
