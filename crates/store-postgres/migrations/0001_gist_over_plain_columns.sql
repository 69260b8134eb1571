-- Exclusion constraints over "same meter, overlapping period" need gist operators for plain columns.
CREATE EXTENSION IF NOT EXISTS btree_gist;
