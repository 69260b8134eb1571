-- Where a commodity is delivered, and what measures it. Register digits, unit and calibre belong
-- to the meter model (R053); the names a device uses on the air belong to the meter, and no two
-- meters share one.
CREATE TABLE service_points (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64),
    commodity text NOT NULL CHECK (commodity IN ('water', 'electricity', 'gas', 'heat', 'cold')),
    address text NOT NULL CHECK (length(address) <= 500),
    UNIQUE (id, commodity)
);

CREATE TABLE meter_models (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64),
    profile text NOT NULL CHECK (length(profile) BETWEEN 1 AND 64),
    register_digits smallint NOT NULL CHECK (register_digits BETWEEN 1 AND 18),
    register_exponent smallint NOT NULL CHECK (register_exponent BETWEEN -9 AND 9),
    register_unit text NOT NULL CHECK (length(register_unit) BETWEEN 1 AND 16),
    calibre_mm integer CHECK (calibre_mm BETWEEN 1 AND 65535),
    hourly_max numeric NOT NULL CHECK (hourly_max > 0),
    pulse_weight numeric CHECK (pulse_weight > 0)
);

CREATE TABLE meters (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    number text NOT NULL UNIQUE CHECK (length(number) BETWEEN 1 AND 64),
    model_id bigint NOT NULL REFERENCES meter_models,
    -- LoRaWAN sessions: several devices may share an address, the MIC tells them apart.
    lorawan_dev_addr bigint CHECK (lorawan_dev_addr BETWEEN 0 AND 4294967295)
);

CREATE TABLE meter_devices (
    device text PRIMARY KEY CHECK (device ~ '^[a-z0-9_]+:[0-9a-f]+$'),
    meter_id bigint NOT NULL REFERENCES meters
);
CREATE INDEX devices_of_a_meter ON meter_devices (meter_id);
