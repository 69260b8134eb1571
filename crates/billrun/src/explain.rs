//! A stored bill's working in words.
//!
//! In: a bill's id, or an account number and a cycle's name. Out: text.
//! Never here: rating anew; `billing` renders what the bill itself keeps.

use crate::ExplainError;
use model::BillId;
use store_postgres::Store;

/// The working of the bill with this id.
///
/// # Errors
/// When there is no such bill or Postgres does not give it.
pub async fn explain(money: &Store, bill: BillId) -> Result<String, ExplainError> {
    let what = || format!("bill {bill}");
    let stored = money
        .bill(bill)
        .await
        .map_err(|source| ExplainError::Read { what: what(), source })?
        .ok_or(ExplainError::UnknownBill(bill))?;
    Ok(billing::explain(&stored.bill, &stored.labels))
}

/// The working of the live bill of an account in a cycle.
///
/// # Errors
/// When there is none or Postgres does not give it.
pub async fn explain_account(
    money: &Store,
    account_number: &str,
    cycle_name: &str,
) -> Result<String, ExplainError> {
    let cycles = money
        .cycles()
        .await
        .map_err(|source| ExplainError::Cycle { cycle: cycle_name.to_owned(), source })?;
    // An account is in one book at a time, but may have been billed in another.
    for cycle in cycles.iter().filter(|cycle| cycle.name == cycle_name) {
        let stored = money.bill_for(account_number, cycle).await.map_err(|source| {
            let what = format!("the bill of account {account_number} in cycle {cycle_name}");
            ExplainError::Read { what, source }
        })?;
        if let Some(stored) = stored {
            return Ok(billing::explain(&stored.bill, &stored.labels));
        }
    }
    Err(ExplainError::NoBill { account: account_number.to_owned(), cycle: cycle_name.to_owned() })
}
