-- Corrections never edit (decision 7): a bill moves from draft to issued to cancelled, its
-- contents never change, and they add up. Lines and segments of a bill are inserted in one
-- statement each, so a later addition does not add up and is refused.
CREATE FUNCTION keep_bill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.account_id, NEW.cycle_id, NEW.kind, NEW.revision, NEW.total, NEW.run_id)
        IS DISTINCT FROM
       (OLD.id, OLD.account_id, OLD.cycle_id, OLD.kind, OLD.revision, OLD.total, OLD.run_id)
    OR (OLD.number IS NOT NULL
        AND (NEW.number, NEW.issued_on) IS DISTINCT FROM (OLD.number, OLD.issued_on))
    OR (OLD.state, NEW.state) NOT IN (('draft', 'issued'), ('issued', 'cancelled')) THEN
        RAISE EXCEPTION 'bill % is % and cannot become % or change', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'a_bill_is_never_edited';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER a_bill_is_never_edited BEFORE UPDATE ON bills
    FOR EACH ROW EXECUTE FUNCTION keep_bill();
CREATE TRIGGER bills_stay BEFORE DELETE OR TRUNCATE ON bills
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_statement();
CREATE TRIGGER segments_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON bill_segments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_statement();
CREATE TRIGGER lines_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON charge_lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_statement();

CREATE FUNCTION segments_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong uuid;
BEGIN
    SELECT b.id INTO wrong
    FROM (SELECT bill_id, sum(total) AS total FROM new_segments GROUP BY bill_id) s
    JOIN bills b ON b.id = s.bill_id
    WHERE b.total <> s.total LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'bill %: its segments do not add up', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'segments_add_up';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER segments_add_up AFTER INSERT ON bill_segments
    REFERENCING NEW TABLE AS new_segments
    FOR EACH STATEMENT EXECUTE FUNCTION segments_add_up();

CREATE FUNCTION lines_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong uuid;
BEGIN
    SELECT s.bill_id INTO wrong
    FROM (SELECT bill_id, segment_no, sum(amount) AS total
          FROM new_lines GROUP BY bill_id, segment_no) l
    JOIN bill_segments s USING (bill_id, segment_no)
    WHERE s.total <> l.total LIMIT 1;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'bill %: its lines do not add up', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'lines_add_up';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lines_add_up AFTER INSERT ON charge_lines
    REFERENCING NEW TABLE AS new_lines
    FOR EACH STATEMENT EXECUTE FUNCTION lines_add_up();
