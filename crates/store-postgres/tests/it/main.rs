//! The store against a real Postgres, a database per test.
//!
//! In: `TIDEMARK_TEST_POSTGRES_URL`. Out: verdicts. Never here: other rooms' rules.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod registry;
mod support;
