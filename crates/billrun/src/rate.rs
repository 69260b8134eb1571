//! A page of prepared accounts, rated: drafts to write, accounts to put aside.
//!
//! In: usage, what block windows have used. Out: drafts, holds, excuses.
//! Never here: SQL, waiting.

use crate::{
    assemble::agreement_input,
    prepare::{Prepared, Ready},
    tariffs::Tariffs,
};
use billing::{
    AgreementInput, BillInput, Draft, Excused, Hold, HoldReason, TierHolder, WindowUsed,
    draft_bill, windows_of,
};
use chrono::NaiveDate;
use model::{MoneyError, Quantity, QuantityError};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use store_postgres::ItemSum;

/// A window in the tier ledger: whose, of which item, from when.
type WindowKey = (TierHolder, Arc<str>, NaiveDate);

fn key_of(window: &WindowUsed) -> WindowKey {
    (window.holder, Arc::clone(&window.used.item), window.used.window.from())
}

/// What windows have used beyond the ledger: by drafts that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Carried(HashMap<WindowKey, Quantity>);

impl Carried {
    /// Forgets everything: the drafts are written, the ledger knows.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn append(&mut self, draft: &Draft) -> Result<(), QuantityError> {
        for row in draft.contents().segments().iter().flat_map(|segment| &segment.tier_appends) {
            let key = (row.holder, Arc::clone(&row.item), row.window.from());
            let sum = self.0.entry(key).or_insert_with(|| Quantity::zero(row.quantity.unit));
            *sum = sum.checked_add(row.quantity)?;
        }
        Ok(())
    }
}

/// What becomes of a page of accounts.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) excused: Vec<Excused>,
    pub(crate) billed_before: u64,
}

/// The windows a page of accounts may touch, each once: what to ask the tier ledger for.
pub(crate) fn windows_of_page(page: &[Prepared], tariffs: &Tariffs) -> Vec<WindowUsed> {
    let mut windows: HashMap<WindowKey, WindowUsed> = HashMap::new();
    for account in page {
        let Prepared::Ready(ready) = account else { continue };
        for agreement in inputs(ready, tariffs) {
            // A period without windows fails again when it is rated, and then has its reason.
            for window in windows_of(&agreement).into_iter().flatten() {
                windows.entry(key_of(&window)).or_insert(window);
            }
        }
    }
    windows.into_values().collect()
}

fn inputs<'a>(ready: &'a Ready, tariffs: &'a Tariffs) -> Vec<AgreementInput<'a>> {
    ready
        .agreements
        .iter()
        .map(|(agreement, usage)| {
            agreement_input(agreement, usage.clone(), tariffs.versions(agreement.schedule))
        })
        .collect()
}

/// Rates a page, account by account, in order: an account sees what the ones before it used of a
/// shared window.
pub(crate) fn rate_page(
    page: Vec<Prepared>,
    tariffs: &Tariffs,
    ledger: Vec<WindowUsed>,
    carried: &mut Carried,
) -> Outcome {
    let ledger: HashMap<WindowKey, WindowUsed> =
        ledger.into_iter().map(|window| (key_of(&window), window)).collect();
    let mut outcome = Outcome::default();
    for account in page {
        match account {
            Prepared::Billed => outcome.billed_before = outcome.billed_before.saturating_add(1),
            Prepared::Excused(excused) => outcome.excused.push(excused),
            Prepared::Held(hold) => outcome.holds.push(hold),
            Prepared::Ready(ready) => match draft(&ready, tariffs, &ledger, carried) {
                Ok(draft) => outcome.drafts.push(draft),
                Err(reason) => outcome.holds.push(Hold { account: ready.key.account, reason }),
            },
        }
    }
    outcome
}

fn draft(
    ready: &Ready,
    tariffs: &Tariffs,
    ledger: &HashMap<WindowKey, WindowUsed>,
    carried: &mut Carried,
) -> Result<Draft, HoldReason> {
    let agreements = inputs(ready, tariffs);
    let too_much = |error: QuantityError| HoldReason::new("overflow", error.to_string());
    let mut used: HashMap<WindowKey, WindowUsed> = HashMap::new();
    for agreement in &agreements {
        for window in windows_of(agreement).map_err(|reason| HoldReason::from(&reason))? {
            let key = key_of(&window);
            let mut window = ledger.get(&key).cloned().unwrap_or(window);
            if let Some(more) = carried.0.get(&key) {
                window.used.quantity = window.used.quantity.checked_add(*more).map_err(too_much)?;
            }
            used.insert(key, window);
        }
    }
    let input = BillInput { key: ready.key, agreements, window_used: used.into_values().collect() };
    let draft = draft_bill(&input).map_err(|reason| HoldReason::from(&reason))?;
    carried.append(&draft).map_err(too_much)?;
    Ok(draft)
}

/// An item, its tier, the unit.
pub(crate) type ItemKey = (String, Option<u8>, &'static str);

/// Sums by item and tier, for a dry run's report.
pub(crate) fn add_up(
    draft: &Draft,
    items: &mut BTreeMap<ItemKey, ItemSum>,
) -> Result<(), MoneyError> {
    for line in draft.contents().lines() {
        let unit = line.quantity.unit;
        let key = (line.item.id.to_string(), line.tier, unit.symbol());
        let total = items.entry(key).or_insert_with(|| ItemSum {
            item: line.item.id.to_string(),
            tier: line.tier,
            lines: 0,
            quantity: Quantity::zero(unit),
            amount: model::Money::ZERO,
        });
        total.lines = total.lines.saturating_add(1);
        total.quantity =
            total.quantity.checked_add(line.quantity).map_err(|_| MoneyError::Overflow)?;
        total.amount = total.amount.checked_add(line.amount)?;
    }
    Ok(())
}
