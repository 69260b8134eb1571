-- An account takes a commodity at a service point under a schedule. Nobody pays twice for one
-- day of one service point, and the schedule prices what is delivered there: both foreign keys
-- carry the commodity.
CREATE TABLE service_agreements (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts,
    service_point_id bigint NOT NULL,
    commodity text NOT NULL,
    schedule_id bigint NOT NULL,
    household_id bigint REFERENCES households,
    class text NOT NULL CHECK (length(class) BETWEEN 1 AND 64),
    from_day date NOT NULL,
    until_day date CHECK (until_day > from_day),
    FOREIGN KEY (service_point_id, commodity) REFERENCES service_points (id, commodity),
    FOREIGN KEY (schedule_id, commodity) REFERENCES rate_schedules (id, commodity),
    UNIQUE (service_point_id, commodity, from_day),
    CONSTRAINT agreements_for_a_service_point_do_not_overlap
        EXCLUDE USING gist (
            service_point_id WITH =, commodity WITH =, daterange(from_day, until_day) WITH &&)
        DEFERRABLE INITIALLY IMMEDIATE
);
CREATE INDEX agreements_of_an_account ON service_agreements (account_id);
