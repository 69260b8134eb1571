-- Keys are kept encrypted at rest (R065): AES-256-GCM under a master key that never comes here.
-- A key is 16 bytes, sealed it is 32 with its tag: a plain key does not even fit.
CREATE TABLE device_keys (
    meter_id bigint NOT NULL REFERENCES meters,
    purpose text NOT NULL CHECK (purpose IN ('uplink', 'nwk_s_key', 'app_s_key')),
    master_key_id text NOT NULL CHECK (length(master_key_id) BETWEEN 1 AND 64),
    nonce bytea NOT NULL CHECK (length(nonce) = 12),
    sealed bytea NOT NULL CHECK (length(sealed) = 32),
    PRIMARY KEY (meter_id, purpose)
);
