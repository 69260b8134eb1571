//! Billing determinants in, charge lines out, one JSON object per line (`tidemark rate --ndjson`).
//!
//! In: a schedule, one line of JSON. Out: one line of JSON: charge lines with their working, a
//! subtotal per item, the total; or `{"error":{code,message,path}}`. A [`Session`] carries the
//! tier ledger of accounts from line to line.
//! Never here: standard input and output, the clock; numbers never pass through a float.

mod answer;
mod question;

use crate::{RatingError, Schedule, WindowUse};
use chrono::NaiveDate;
use model::Quantity;
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};

/// The most bytes one line may have.
pub const MOST_LINE_BYTES: usize = 1 << 16;
/// The most windows of accounts a session remembers.
pub const MOST_LEDGER_ROWS: usize = 2_000_000;

/// Why a line has no charge lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineError {
    /// A stable word: `json`, `unknown_key`, `not_exact`, or a [`RatingError::code`].
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// The key of the line: `window_used.water`; empty for the line as a whole.
    pub path: String,
}

impl LineError {
    fn new(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), path: path.into() }
    }
}

impl From<RatingError> for LineError {
    fn from(error: RatingError) -> Self {
        let path = error.determinant().map_or("", model::DeterminantKind::name);
        Self::new(error.code(), path, error.to_string())
    }
}

/// Rates one line on its own; see [`Session::rate_line`].
#[must_use]
pub fn rate_line(schedule: &Schedule, line: &str) -> String {
    Session::new(schedule).rate_line(line)
}

/// Lines rated one after the other; those with an `account` carry its windows forward.
#[derive(Debug)]
pub struct Session<'a> {
    schedule: &'a Schedule,
    ledger: HashMap<String, HashMap<(Arc<str>, NaiveDate), WindowUse>>,
    rows: usize,
}

impl<'a> Session<'a> {
    /// A session with an empty tier ledger.
    #[must_use]
    pub fn new(schedule: &'a Schedule) -> Self {
        Self { schedule, ledger: HashMap::new(), rows: 0 }
    }

    /// Answers one line of JSON with one line of JSON (without the line end). Never fails: what
    /// cannot be rated is answered with an error object, and changes no ledger.
    pub fn rate_line(&mut self, line: &str) -> String {
        let question = match question::read(line) {
            Ok(question) => question,
            Err(error) => return answer::refusal(None, None, &error),
        };
        match self.rated(&question) {
            Ok(rated) => answer::rated(self.schedule, &question, &rated),
            Err(error) => answer::refusal(question.id, question.account.as_deref(), &error),
        }
    }

    fn rated(&mut self, question: &question::Question<'_>) -> Result<crate::Rated, LineError> {
        let mut input = question.input(self.schedule)?;
        // What the line itself says of an item's windows goes before what is remembered.
        let told: Vec<Arc<str>> = input.window_used.iter().map(|row| row.item.clone()).collect();
        let remembered = question.account.as_ref().and_then(|account| self.ledger.get(account));
        let remembered = remembered.into_iter().flat_map(HashMap::values);
        input.window_used.extend(remembered.filter(|row| !told.contains(&row.item)).cloned());
        let rated = self.schedule.rate(&input)?;
        if let Some(account) = &question.account {
            self.remember(account, &input.window_used, &rated.tier_usage)?;
        }
        Ok(rated)
    }

    fn remember(
        &mut self,
        account: &str,
        before: &[WindowUse],
        used: &[WindowUse],
    ) -> Result<(), LineError> {
        let mut rows: HashMap<(Arc<str>, NaiveDate), WindowUse> = HashMap::new();
        for row in before.iter().chain(used) {
            let entry = rows.entry((row.item.clone(), row.window.from())).or_insert_with(|| {
                WindowUse { quantity: Quantity::zero(row.quantity.unit), ..row.clone() }
            });
            entry.quantity = entry
                .quantity
                .checked_add(row.quantity)
                .map_err(|error| LineError::new("overflow", "usage", error.to_string()))?;
        }
        if self.rows.saturating_add(rows.len()) > MOST_LEDGER_ROWS {
            let message = format!(
                "the session remembers {MOST_LEDGER_ROWS} windows already: leave account out and \
                 give window_used"
            );
            return Err(LineError::new("ledger_full", "account", message));
        }
        let ledger = self.ledger.entry(account.to_owned()).or_default();
        let known = ledger.len();
        ledger.extend(rows);
        self.rows += ledger.len() - known;
        Ok(())
    }
}
