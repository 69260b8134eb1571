-- A bill points at the version that priced it, so an active version never changes again. The one
-- thing still open is the end of a version that has none: a successor sets it, once.
CREATE FUNCTION keep_active_rate_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'active' AND (
        TG_OP = 'DELETE'
        OR (NEW.id, NEW.schedule_id, NEW.valid_from, NEW.state, NEW.document, NEW.text, NEW.hash)
            IS DISTINCT FROM
           (OLD.id, OLD.schedule_id, OLD.valid_from, OLD.state, OLD.document, OLD.text, OLD.hash)
        OR (OLD.valid_until IS NOT NULL AND NEW.valid_until IS DISTINCT FROM OLD.valid_until)
    ) THEN
        RAISE EXCEPTION 'rate version % of schedule id % is active and cannot be changed',
            OLD.valid_from, OLD.schedule_id
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'active_rate_version_is_immutable';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER active_rate_version_is_immutable
    BEFORE UPDATE OR DELETE ON rate_versions
    FOR EACH ROW EXECUTE FUNCTION keep_active_rate_version();

CREATE FUNCTION refuse_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: rows stay', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER rate_versions_are_never_truncated
    BEFORE TRUNCATE ON rate_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_statement();
