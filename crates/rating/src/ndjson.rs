//! Billing determinants in, charge lines out, one JSON object per line (`tidemark rate --ndjson`).
//!
//! In: a schedule, one line of JSON. Out: one line of JSON: charge lines with their working, a
//! subtotal per item, the total; or `{"error":{code,message,path}}`.
//! Never here: standard input and output, the clock; numbers never pass through a float.

use crate::Schedule;

/// Rates one line, on its own.
#[must_use]
pub fn rate_line(_schedule: &Schedule, _line: &str) -> String {
    String::new()
}
