-- The utility and its branches, and their settings: where the three regulations disagree, the
-- organisation decides, and its decision is data.
-- Ids are bigint here and u32 in the code: the sequence itself ends where u32 does.
CREATE TABLE organisations (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    utc_offset_minutes smallint NOT NULL CHECK (utc_offset_minutes BETWEEN -840 AND 840)
);

CREATE TABLE organisation_settings (
    organisation_id bigint NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    value jsonb NOT NULL,
    PRIMARY KEY (organisation_id, name)
);
