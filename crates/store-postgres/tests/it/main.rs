//! The store against a real Postgres, a database per test.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`. Out: verdicts. Never here: other rooms' rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod bills;
mod registry;
mod support;
