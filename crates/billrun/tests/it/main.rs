//! Bill runs on real stores, two databases per test.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`, `TIDEMARK_TEST_CLICKHOUSE_URL`. Out: verdicts.
//! Never here: other rooms' rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod runs;
mod support;
