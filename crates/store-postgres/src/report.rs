//! Sums and counts: what a cycle's bills add up to, who waits, and live counts for a first page.
//!
//! In: a cycle, or nothing. Out: numbers. Never here: whether they are good ones.

use crate::{
    Cycle, CycleError, DatabaseError, RowError, RunSummary, Store,
    cycles::{decimal, unit},
    store::doing,
};
use model::{AccountId, Money, Quantity};
use sqlx::{Row, postgres::PgRow};
use std::collections::BTreeMap;

/// The sum of all lines of one item and tier, per unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSum {
    /// The item's id in its schedule.
    pub item: String,
    /// The block (tier), where there is one.
    pub tier: Option<u8>,
    /// How many lines.
    pub lines: u64,
    /// How much was priced.
    pub quantity: Quantity,
    /// What was billed.
    pub amount: Money,
}

/// What the live bills of a cycle add up to, and who has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleTotals {
    /// Accounts that wait, by reason.
    pub held: BTreeMap<String, u64>,
    /// Accounts rightly without a bill, by reason.
    pub excused: BTreeMap<String, u64>,
    /// Sums by item and tier.
    pub items: Vec<ItemSum>,
    /// The sum of all lines.
    pub sum_of_lines: Money,
    /// The sum of all bills' totals.
    pub sum_of_bills: Money,
    /// Live bills.
    pub bills: u64,
}

/// An account that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAccount {
    /// The account.
    pub account: AccountId,
    /// Its number.
    pub number: String,
    /// A stable name for the reason.
    pub reason_code: String,
    /// What is wrong, for a clerk.
    pub message: String,
}

/// Counts for the console's first page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCounts {
    /// Meters in the registry.
    pub meters: u64,
    /// Meters that hang somewhere at the given time.
    pub installed_meters: u64,
    /// Accounts.
    pub accounts: u64,
    /// Books.
    pub books: u64,
    /// Cycles.
    pub cycles: u64,
    /// Bills by state; states without bills are left out.
    pub bills_by_state: BTreeMap<String, u64>,
    /// Accounts that wait, over all cycles.
    pub held: u64,
    /// The latest run.
    pub last_run: Option<RunSummary>,
}

fn count(row: &PgRow, column: &'static str) -> Result<u64, RowError> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(|_| RowError::Range { column })
}

fn wrong(source: RowError) -> CycleError {
    CycleError::Row { what: "totals".to_owned(), source }
}

impl Store {
    /// What the cycle's live bills add up to. Sums of lines and of bills are taken apart from
    /// each other, so that comparing them proves something.
    ///
    /// # Errors
    /// When Postgres is away or a row makes no sense.
    pub async fn cycle_totals(&self, cycle: &Cycle) -> Result<CycleTotals, CycleError> {
        let id = i64::from(cycle.id);
        let reading = || doing("add up a cycle");
        let rows = sqlx::query(
            "SELECT l.item, l.tier, l.quantity_unit, count(*) AS lines,
                 sum(l.quantity)::text AS quantity, sum(l.amount)::text AS amount
             FROM charge_lines l JOIN bills b ON b.id = l.bill_id
             WHERE b.cycle_id = $1 AND b.state <> 'cancelled'
             GROUP BY l.item, l.tier, l.quantity_unit
             ORDER BY l.item, l.tier NULLS FIRST, l.quantity_unit",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(reading())?;
        let items: Vec<ItemSum> =
            rows.iter().map(item_sum).collect::<Result<_, _>>().map_err(wrong)?;
        let row = sqlx::query(
            "SELECT count(*) AS bills, coalesce(sum(total), 0.00)::text AS total FROM bills
             WHERE cycle_id = $1 AND state <> 'cancelled'",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await
        .map_err(reading())?;
        let sum_of_lines = Money::checked_sum(items.iter().map(|item| item.amount))
            .map_err(|_| wrong(RowError::Range { column: "amount" }))?;
        Ok(CycleTotals {
            held: self
                .by_reason(
                    "SELECT h.reason_code, count(*) AS accounts FROM held_accounts h
                     WHERE h.cycle_id = $1 AND h.released_at IS NULL
                       AND NOT EXISTS (SELECT FROM bills b WHERE b.account_id = h.account_id
                           AND b.cycle_id = $1 AND b.state <> 'cancelled')
                     GROUP BY h.reason_code",
                    id,
                )
                .await?,
            excused: self
                .by_reason(
                    "SELECT e.reason_code, count(*) AS accounts FROM excused_accounts e
                     WHERE e.cycle_id = $1
                       AND NOT EXISTS (SELECT FROM bills b WHERE b.account_id = e.account_id
                           AND b.cycle_id = $1 AND b.state <> 'cancelled')
                       AND NOT EXISTS (SELECT FROM held_accounts h
                           WHERE h.account_id = e.account_id AND h.cycle_id = $1
                           AND h.released_at IS NULL)
                     GROUP BY e.reason_code",
                    id,
                )
                .await?,
            sum_of_lines,
            sum_of_bills: Money::yuan(decimal(&row, "total").map_err(wrong)?),
            bills: count(&row, "bills").map_err(wrong)?,
            items,
        })
    }

    async fn by_reason(
        &self,
        sql: &'static str,
        cycle: i64,
    ) -> Result<BTreeMap<String, u64>, CycleError> {
        let rows = sqlx::query(sql)
            .bind(cycle)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("count accounts without a bill"))?;
        rows.iter()
            .map(|row| Ok((row.try_get("reason_code")?, count(row, "accounts")?)))
            .collect::<Result<_, RowError>>()
            .map_err(wrong)
    }

    /// The accounts of a cycle that wait for a person, by account number, at most `limit`.
    ///
    /// # Errors
    /// When Postgres is away or a row makes no sense.
    pub async fn held_accounts(
        &self,
        cycle: &Cycle,
        limit: u32,
    ) -> Result<Vec<HeldAccount>, CycleError> {
        let rows = sqlx::query(
            "SELECT h.account_id, a.number, h.reason_code, h.message
             FROM held_accounts h JOIN accounts a ON a.id = h.account_id
             WHERE h.cycle_id = $1 AND h.released_at IS NULL ORDER BY a.number LIMIT $2",
        )
        .bind(i64::from(cycle.id))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(doing("list the accounts that wait"))?;
        let held = |row: &PgRow| -> Result<HeldAccount, RowError> {
            Ok(HeldAccount {
                account: crate::cycles::id(row, "account_id")?,
                number: row.try_get("number")?,
                reason_code: row.try_get("reason_code")?,
                message: row.try_get("message")?,
            })
        };
        rows.iter().map(held).collect::<Result<_, _>>().map_err(wrong)
    }

    /// Counts for the console's first page, as of `now`.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn live_counts(
        &self,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<LiveCounts, CycleError> {
        let reading = || doing("count what there is");
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM meters) AS meters,
                 (SELECT count(DISTINCT meter_id) FROM installed_meters
                  WHERE from_at <= $1 AND (until_at IS NULL OR until_at > $1)) AS installed,
                 (SELECT count(*) FROM accounts) AS accounts,
                 (SELECT count(*) FROM books) AS books,
                 (SELECT count(*) FROM cycles) AS cycles,
                 (SELECT count(*) FROM held_accounts WHERE released_at IS NULL) AS held",
        )
        .bind(now)
        .fetch_one(&self.pool)
        .await
        .map_err(reading())?;
        let bills: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM bills GROUP BY state")
                .fetch_all(&self.pool)
                .await
                .map_err(reading())?;
        let last_run = self.last_run(None).await?;
        let counts = || -> Result<LiveCounts, RowError> {
            Ok(LiveCounts {
                meters: count(&row, "meters")?,
                installed_meters: count(&row, "installed")?,
                accounts: count(&row, "accounts")?,
                books: count(&row, "books")?,
                cycles: count(&row, "cycles")?,
                bills_by_state: bills
                    .into_iter()
                    .map(|(state, bills)| (state, u64::try_from(bills).unwrap_or_default()))
                    .collect(),
                held: count(&row, "held")?,
                last_run,
            })
        };
        counts().map_err(wrong)
    }

    /// Account numbers by id, for messages and reports.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn account_numbers(
        &self,
        accounts: &[AccountId],
    ) -> Result<BTreeMap<AccountId, String>, DatabaseError> {
        let ids: Vec<i64> = accounts.iter().map(|account| i64::from(*account)).collect();
        let numbers: Vec<(i64, String)> =
            sqlx::query_as("SELECT id, number FROM accounts WHERE id = ANY($1)")
                .bind(&ids)
                .fetch_all(&self.pool)
                .await
                .map_err(doing("read account numbers"))?;
        Ok(numbers
            .into_iter()
            .filter_map(|(id, number)| Some((AccountId::try_from(id).ok()?, number)))
            .collect())
    }
}

fn item_sum(row: &PgRow) -> Result<ItemSum, RowError> {
    let tier: Option<i16> = row.try_get("tier")?;
    Ok(ItemSum {
        item: row.try_get("item")?,
        tier: tier.map(u8::try_from).transpose().map_err(|_| RowError::Range { column: "tier" })?,
        lines: count(row, "lines")?,
        quantity: Quantity::new(decimal(row, "quantity")?, unit(row, "quantity_unit")?),
        amount: Money::yuan(decimal(row, "amount")?),
    })
}
