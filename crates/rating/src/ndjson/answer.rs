//! Charge lines and refusals as JSON.
//!
//! In: what was rated, or why not. Out: one line of JSON, amounts as decimal strings.
//! Never here: rating, rounding.

use super::{LineError, question::Question};
use crate::{ChargeLine, Rated, Schedule};
use chrono::NaiveDate;
use model::{Money, Period};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    error: &'a LineError,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    schedule: &'a str,
    versions: Vec<UsedVersion<'a>>,
    lines: Vec<Line<'a>>,
    items: Subtotals<'a>,
    total: String,
    tier_usage: Vec<TierUsage<'a>>,
}

#[derive(Serialize)]
struct UsedVersion<'a> {
    valid_from: NaiveDate,
    document: &'a str,
    hash: String,
}

#[derive(Serialize)]
struct Line<'a> {
    item: &'a str,
    label_zh: &'a str,
    label_en: &'a str,
    ledger_account: &'a str,
    clause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<u8>,
    service: Period,
    quantity: String,
    unit: &'static str,
    price: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proration: Option<String>,
    exact: String,
    amount: String,
    working: String,
}

#[derive(Serialize)]
struct TierUsage<'a> {
    item: &'a str,
    window: Period,
    quantity: String,
}

/// Sums per item in the order of the bill.
struct Subtotals<'a>(Vec<(&'a str, Money)>);

impl Serialize for Subtotals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (item, sum) in &self.0 {
            map.serialize_entry(item, &sum.to_string())?;
        }
        map.end()
    }
}

pub(super) fn refusal(id: Option<&RawValue>, account: Option<&str>, error: &LineError) -> String {
    written(&Refusal { id, account, error })
}

pub(super) fn rated(schedule: &Schedule, question: &Question<'_>, rated: &Rated) -> String {
    let mut subtotals: Vec<(&str, Money)> = Vec::new();
    let mut versions: Vec<UsedVersion<'_>> = Vec::new();
    for line in &rated.lines {
        match subtotals.iter_mut().find(|(item, _)| *item == line.item_id()) {
            // The total of the same amounts did fit.
            Some((_, sum)) => *sum = sum.checked_add(line.amount).unwrap_or(*sum),
            None => subtotals.push((line.item_id(), line.amount)),
        }
        if !versions.iter().any(|version| version.valid_from == line.version_from)
            && let Ok(version) = schedule.version_on(line.version_from)
        {
            versions.push(UsedVersion {
                valid_from: version.valid_from(),
                document: version.document(),
                hash: version.hash_hex(),
            });
        }
    }
    written(&Answer {
        id: question.id,
        account: question.account.as_deref(),
        schedule: schedule.name(),
        versions,
        lines: rated.lines.iter().map(line).collect(),
        items: Subtotals(subtotals),
        total: rated.total.to_string(),
        tier_usage: rated
            .tier_usage
            .iter()
            .map(|row| TierUsage {
                item: &row.item,
                window: row.window,
                quantity: row.quantity.value.normalize().to_string(),
            })
            .collect(),
    })
}

fn line(line: &ChargeLine) -> Line<'_> {
    Line {
        item: line.item_id(),
        label_zh: line.label_zh(),
        label_en: line.label_en(),
        ledger_account: line.ledger_account(),
        clause: line.clause.to_string(),
        tier: line.tier,
        service: line.service,
        quantity: line.quantity.value.normalize().to_string(),
        unit: line.quantity.unit.symbol(),
        price: line.price.yuan.to_string(),
        proration: (!line.proration.is_whole()).then(|| line.proration.to_string()),
        exact: line.exact.as_decimal().normalize().to_string(),
        amount: line.amount.to_string(),
        working: line.working().to_string(),
    }
}

/// Values of strings and maps with string keys always serialise; should that ever change, the
/// answer says so instead of stopping the run.
fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| {
        r#"{"error":{"code":"json","message":"the answer does not serialise","path":""}}"#
            .to_owned()
    })
}
