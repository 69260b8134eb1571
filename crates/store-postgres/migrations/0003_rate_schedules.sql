-- A rate schedule is a published tariff; a rate version its text in force for a period. The
-- version is chosen by service date, so active versions of one schedule must not overlap.
CREATE TABLE rate_schedules (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64),
    organisation_id bigint NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    commodity text NOT NULL CHECK (commodity IN ('water', 'electricity', 'gas', 'heat', 'cold')),
    UNIQUE (id, commodity)
);

CREATE TABLE rate_versions (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    schedule_id bigint NOT NULL REFERENCES rate_schedules,
    valid_from date NOT NULL,
    valid_until date CHECK (valid_until > valid_from),
    state text NOT NULL CHECK (state IN ('draft', 'active')),
    -- The approving document; nothing becomes active without one (R002).
    document text NOT NULL CHECK (length(document) <= 200),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 1048576),
    -- Stored with every charge line, so that a bill can be proved against the text.
    hash bytea NOT NULL,
    CONSTRAINT rate_version_hash_is_of_its_text
        CHECK (hash = sha256(convert_to(text, 'UTF8'))),
    CONSTRAINT rate_version_needs_a_document CHECK (state = 'draft' OR document <> ''),
    CONSTRAINT rate_versions_do_not_overlap
        EXCLUDE USING gist (schedule_id WITH =, daterange(valid_from, valid_until) WITH &&)
        WHERE (state = 'active') DEFERRABLE INITIALLY IMMEDIATE,
    UNIQUE (schedule_id, valid_from)
);
