-- What is to be told to a customer is written in the transaction that makes it true, and
-- delivered later (R022). Once per bill and kind, however often a run is repeated.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    account_id bigint NOT NULL REFERENCES accounts,
    bill_id uuid REFERENCES bills,
    payload jsonb NOT NULL,
    created_on date NOT NULL,
    delivered_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    UNIQUE (kind, bill_id)
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE delivered_at IS NULL;
