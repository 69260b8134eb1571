-- Who pays (account of a customer, in a book) and who fills a tier window (household). How many
-- people a household has is a history: tier bounds depend on it by service date.
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    number text NOT NULL UNIQUE CHECK (length(number) BETWEEN 1 AND 64),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
);

CREATE TABLE accounts (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    number text NOT NULL UNIQUE CHECK (length(number) BETWEEN 1 AND 64),
    customer_id bigint NOT NULL REFERENCES customers,
    book_id bigint NOT NULL REFERENCES books
);
CREATE INDEX accounts_of_a_book ON accounts (book_id);

CREATE TABLE households (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64)
);

CREATE TABLE household_persons (
    household_id bigint NOT NULL REFERENCES households,
    from_day date NOT NULL,
    until_day date CHECK (until_day > from_day),
    persons smallint NOT NULL CHECK (persons >= 0),
    PRIMARY KEY (household_id, from_day),
    CONSTRAINT persons_of_a_household_do_not_overlap
        EXCLUDE USING gist (household_id WITH =, daterange(from_day, until_day) WITH &&)
        DEFERRABLE INITIALLY IMMEDIATE
);
