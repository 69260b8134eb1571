-- What a household (or an agreement on its own) has used of a block window. Append-only: a
-- correction is a row that takes back an earlier one, never an edit (decision 5), because
-- rating replays the window.
CREATE TABLE tier_ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    household_id bigint REFERENCES households,
    agreement_id bigint REFERENCES service_agreements,
    item text NOT NULL CHECK (length(item) BETWEEN 1 AND 64),
    window_from date NOT NULL,
    window_until date NOT NULL CHECK (window_until > window_from),
    quantity numeric NOT NULL,
    unit text NOT NULL,
    bill_id uuid NOT NULL REFERENCES bills,
    segment_no smallint NOT NULL,
    append_no smallint NOT NULL,
    -- The row this one takes back; a row is taken back at most once.
    reverses bigint UNIQUE REFERENCES tier_ledger,
    CHECK (num_nonnulls(household_id, agreement_id) = 1)
);
CREATE UNIQUE INDEX tier_usage_is_booked_once
    ON tier_ledger (bill_id, segment_no, append_no) WHERE reverses IS NULL;
CREATE INDEX tier_usage_of_a_household ON tier_ledger (household_id, item, window_from)
    WHERE household_id IS NOT NULL;
CREATE INDEX tier_usage_of_an_agreement ON tier_ledger (agreement_id, item, window_from)
    WHERE agreement_id IS NOT NULL;
CREATE TRIGGER tier_ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tier_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_statement();
