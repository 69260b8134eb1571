-- Ingest keeps a copy of the registry and must know cheaply when it is out of date: one number
-- that every effective change of what the copy holds moves, whoever made it.
CREATE TABLE registry_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL
);
INSERT INTO registry_version (version) VALUES (0);

CREATE FUNCTION move_registry_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed_rows) THEN
        UPDATE registry_version SET version = version + 1;
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE watched text;
BEGIN
    FOREACH watched IN ARRAY
        ARRAY['meter_models', 'meters', 'meter_devices', 'device_keys', 'installed_meters']
    LOOP
        EXECUTE format('CREATE TRIGGER registry_version_i AFTER INSERT ON %I
            REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT
            EXECUTE FUNCTION move_registry_version()', watched);
        EXECUTE format('CREATE TRIGGER registry_version_u AFTER UPDATE ON %I
            REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT
            EXECUTE FUNCTION move_registry_version()', watched);
        EXECUTE format('CREATE TRIGGER registry_version_d AFTER DELETE ON %I
            REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT
            EXECUTE FUNCTION move_registry_version()', watched);
    END LOOP;
END
$$;

-- What was imported, when and with what effect.
CREATE TABLE registry_imports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    imported_at timestamptz NOT NULL,
    report jsonb NOT NULL
);
