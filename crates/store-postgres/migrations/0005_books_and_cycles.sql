-- A book (抄表册) is read and billed together; its cycles are half-open and never overlap, so no
-- day of a book is billed in two cycles.
CREATE TABLE books (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (length(code) BETWEEN 1 AND 64),
    organisation_id bigint NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- Every month has the days 1 to 28 (R039).
    read_day smallint NOT NULL CHECK (read_day BETWEEN 1 AND 28)
);

CREATE TABLE cycles (
    id bigint GENERATED ALWAYS AS IDENTITY (MAXVALUE 4294967295) PRIMARY KEY,
    book_id bigint NOT NULL REFERENCES books,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    from_day date NOT NULL,
    until_day date NOT NULL,
    CHECK (until_day > from_day),
    UNIQUE (book_id, name),
    CONSTRAINT cycles_of_a_book_do_not_overlap
        EXCLUDE USING gist (book_id WITH =, daterange(from_day, until_day) WITH &&)
        DEFERRABLE INITIALLY IMMEDIATE
);
