//! An open item: one issued bill, as a debt with a due date.
//!
//! In: the bill's amounts per ledger account, the day it was received, the terms. Out: the item.
//! Never here: payments against it.

use chrono::NaiveDate;
use model::{AccountId, BillId, Money, MoneyError, WorkingDayCalendar};
use serde::{Deserialize, Serialize};

/// An amount on one ledger account (会计科目): water fee, sewage fee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerAmount {
    /// The ledger account the schedule books the item to.
    pub ledger_account: String,
    /// How much; negative is a credit.
    pub amount: Money,
}

/// What an issued bill means for the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedBill {
    /// The bill.
    pub bill: BillId,
    /// Who owes it.
    pub account: AccountId,
    /// Its total per ledger account, each account once.
    pub amounts: Vec<LedgerAmount>,
    /// Its total as printed.
    pub total: Money,
    /// The day it was received, proven or deemed (R043).
    pub received_on: NaiveDate,
}

/// When a bill must be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentTerms {
    /// Working days to pay in, the day of receipt not counted (R043).
    pub due_working_days: u32,
}

impl Default for PaymentTerms {
    fn default() -> Self {
        Self { due_working_days: 10 }
    }
}

/// A debt that is not settled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenItem {
    /// The bill it stands for.
    pub bill: BillId,
    /// Who owes it.
    pub account: AccountId,
    /// The debt per ledger account; adds up to `total`.
    pub amounts: Vec<LedgerAmount>,
    /// The whole debt; negative when the customer is owed.
    pub total: Money,
    /// The last day to pay without a late fee.
    pub due_on: NaiveDate,
    /// The calendar `due_on` was counted with; next year's may move it.
    pub calendar_version: String,
}

/// Why no open item can be raised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenItemError {
    /// The ledger accounts do not add up to the bill's total.
    #[error("bill {bill}: ledger accounts add up to {sum}, the bill says {total}")]
    DoesNotAddUp {
        /// The bill.
        bill: BillId,
        /// What the ledger accounts add up to.
        sum: Money,
        /// What the bill says.
        total: Money,
    },
    /// One ledger account stands twice.
    #[error("bill {bill}: ledger account {ledger_account:?} stands twice")]
    LedgerAccountTwice {
        /// The bill.
        bill: BillId,
        /// The ledger account.
        ledger_account: String,
    },
    /// The calendar knows no such working day.
    #[error("bill {bill}: calendar {calendar:?} has no working day {count} after {received_on}")]
    NoDueDay {
        /// The bill.
        bill: BillId,
        /// The calendar's version.
        calendar: String,
        /// Working days asked for.
        count: u32,
        /// Counted from.
        received_on: NaiveDate,
    },
    /// The amounts do not fit.
    #[error("bill {bill}: the amounts cannot be added")]
    Amount {
        /// The bill.
        bill: BillId,
        /// Why not.
        source: MoneyError,
    },
}

/// Raises the open item of an issued bill. A bill of zero gives an item too: it is settled at
/// once by whoever allocates payments, and nothing is silently missing.
///
/// # Errors
/// When the bill contradicts itself or the calendar ends before the due day.
pub fn open_item(
    issued: IssuedBill,
    terms: &PaymentTerms,
    calendar: &WorkingDayCalendar,
) -> Result<OpenItem, OpenItemError> {
    let IssuedBill { bill, account, amounts, total, received_on } = issued;
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = amounts.iter().find(|part| !seen.insert(part.ledger_account.as_str())) {
        let ledger_account = twice.ledger_account.clone();
        return Err(OpenItemError::LedgerAccountTwice { bill, ledger_account });
    }
    let sum = Money::checked_sum(amounts.iter().map(|part| part.amount))
        .map_err(|source| OpenItemError::Amount { bill, source })?;
    if sum != total {
        return Err(OpenItemError::DoesNotAddUp { bill, sum, total });
    }
    let due_on =
        calendar.add_working_days(received_on, terms.due_working_days).ok_or_else(|| {
            OpenItemError::NoDueDay {
                bill,
                calendar: calendar.version.clone(),
                count: terms.due_working_days,
                received_on,
            }
        })?;
    Ok(OpenItem {
        bill,
        account,
        amounts,
        total,
        due_on,
        calendar_version: calendar.version.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal_macros::dec;

    fn issued(water: Money, sewage: Money, total: Money, received_on: &str) -> IssuedBill {
        IssuedBill {
            bill: BillId::new(7),
            account: AccountId::new(1),
            amounts: vec![
                LedgerAmount { ledger_account: "water".to_owned(), amount: water },
                LedgerAmount { ledger_account: "sewage".to_owned(), amount: sewage },
            ],
            total,
            received_on: received_on.parse().unwrap(),
        }
    }

    fn yuan(amount: rust_decimal::Decimal) -> Money {
        Money::yuan(amount)
    }

    #[test]
    fn a_bill_is_due_after_so_many_working_days_of_the_loaded_calendar() {
        let bill = || issued(yuan(dec!(29.16)), yuan(dec!(17.10)), yuan(dec!(46.26)), "2025-04-25");
        let terms = PaymentTerms { due_working_days: 3 };
        let plain = WorkingDayCalendar::weekdays();
        let item = open_item(bill(), &terms, &plain).unwrap();
        assert_eq!(item.due_on.to_string(), "2025-04-30");
        assert_eq!(item.total, yuan(dec!(46.26)));

        // Sunday 27 April 2025 was a make-up working day.
        let mut statutory = WorkingDayCalendar::weekdays();
        statutory.version = "2025".to_owned();
        statutory.exceptions.insert("2025-04-27".parse().unwrap(), true);
        let item = open_item(bill(), &terms, &statutory).unwrap();
        assert_eq!(
            (item.due_on.to_string(), item.calendar_version.as_str()),
            ("2025-04-29".to_owned(), "2025")
        );
    }

    #[test]
    fn a_bill_that_contradicts_itself_is_no_debt() {
        let (terms, calendar) = (PaymentTerms::default(), WorkingDayCalendar::weekdays());
        let wrong = issued(yuan(dec!(1)), yuan(dec!(2)), yuan(dec!(4)), "2026-01-05");
        assert_eq!(
            open_item(wrong, &terms, &calendar).unwrap_err().to_string(),
            format!("bill {}: ledger accounts add up to 3, the bill says 4", BillId::new(7))
        );
        let mut twice = issued(yuan(dec!(1)), yuan(dec!(2)), yuan(dec!(3)), "2026-01-05");
        twice.amounts[1].ledger_account = "water".to_owned();
        assert!(matches!(
            open_item(twice, &terms, &calendar),
            Err(OpenItemError::LedgerAccountTwice { .. })
        ));
        let mut late = issued(yuan(dec!(1)), yuan(dec!(2)), yuan(dec!(3)), "2026-01-05");
        late.received_on = NaiveDate::MAX;
        assert!(matches!(open_item(late, &terms, &calendar), Err(OpenItemError::NoDueDay { .. })));
    }
}
