-- Which meter hung where, when, with which multiplier (倍率). A meter is at one place at a time;
-- a changed multiplier ends one row and begins the next. Counts are in the register's smallest
-- unit, so a swap loses nothing.
CREATE TABLE installed_meters (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    meter_id bigint NOT NULL REFERENCES meters,
    service_point_id bigint NOT NULL REFERENCES service_points,
    from_at timestamptz NOT NULL,
    until_at timestamptz CHECK (until_at > from_at),
    multiplier numeric NOT NULL CHECK (multiplier > 0),
    opening_count bigint NOT NULL,
    closing_count bigint CHECK (closing_count IS NULL OR until_at IS NOT NULL),
    UNIQUE (meter_id, from_at),
    CONSTRAINT a_meter_is_at_one_place_at_a_time
        EXCLUDE USING gist (meter_id WITH =, tstzrange(from_at, until_at) WITH &&)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE INDEX installed_at_a_service_point ON installed_meters (service_point_id);
