//! Reads bills back, with everything it takes to explain them.
//!
//! In: a bill's id, or an account number and a cycle. Out: the bill as `billing` knows it, with
//! the names of things. Never here: arithmetic; a bill's sums are proven again by `billing`.

use crate::{
    Cycle, CycleError, DatabaseError, RowError, Store,
    cycles::{decimal, hash, id, period, unit},
    store::doing,
    write_bills::uuid,
};
use billing::{
    Bill, BillError, BillKey, BillKind, BillLine, BillNumber, DayShare, Draft, Labels, Segment,
    TierAppend, TierHolder, VersionRef,
};
use chrono::NaiveDate;
use model::{
    AccountId, AgreementId, BillId, BillingDeterminant, CycleId, Evidence, HouseholdId, MeterId,
    Money, Price, Quantity,
};
use rating::{ItemFacts, Proration};
use sqlx::{Row, postgres::PgRow, types::Json};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};
use uuid::Uuid;

/// A bill with the names of things.
#[derive(Debug, Clone)]
pub struct StoredBill {
    /// The bill, in whatever life it is.
    pub bill: Bill,
    /// The cycle it is for.
    pub cycle: Cycle,
    /// What to call account, cycle and meters in `billing::explain`.
    pub labels: Labels,
}

/// A bill in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillSummary {
    /// Its id.
    pub id: BillId,
    /// Who is billed.
    pub account: AccountId,
    /// The account's number.
    pub account_number: String,
    /// Why.
    pub kind: BillKind,
    /// Which attempt at it.
    pub revision: u16,
    /// `draft`, `issued` or `cancelled`.
    pub state: String,
    /// Its total.
    pub total: Money,
    /// Its number, once issued.
    pub number: Option<String>,
}

/// Why a bill cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBillError {
    /// Postgres refused or is away.
    #[error("read a bill")]
    Database(#[from] DatabaseError),
    /// Its cycle cannot be read.
    #[error("read the cycle of a bill")]
    Cycle(#[from] CycleError),
    /// A row holds something this program does not know.
    #[error("read bill {bill}")]
    Row {
        /// Which bill.
        bill: BillId,
        /// What is in the way.
        source: RowError,
    },
    /// The stored bill contradicts itself.
    #[error("bill {bill} contradicts itself")]
    Contradiction {
        /// Which bill.
        bill: BillId,
        /// How.
        source: BillError,
    },
}

struct Head {
    key: BillKey,
    state: String,
    number: Option<String>,
    issued_on: Option<NaiveDate>,
    cancelled_on: Option<NaiveDate>,
    cancel_reason: Option<String>,
}

impl Store {
    /// The bill with this id.
    ///
    /// # Errors
    /// When Postgres is away, or what is stored makes no sense.
    pub async fn bill(&self, bill: BillId) -> Result<Option<StoredBill>, ReadBillError> {
        let wrong = |source: RowError| ReadBillError::Row { bill, source };
        let row = sqlx::query(
            "SELECT b.account_id, a.number AS account_number, b.cycle_id, b.kind, b.revision,
                 b.state, b.number, b.issued_on, b.cancelled_on, b.cancel_reason
             FROM bills b JOIN accounts a ON a.id = b.account_id WHERE b.id = $1",
        )
        .bind(uuid(bill))
        .fetch_optional(&self.pool)
        .await
        .map_err(doing("read a bill"))?;
        let Some(row) = row else { return Ok(None) };
        let cycle: CycleId = id(&row, "cycle_id").map_err(wrong)?;
        let Some(cycle) = self.cycles_where(None, None, Some(cycle)).await?.pop() else {
            return Ok(None);
        };
        let head = head(&row, &cycle).map_err(wrong)?;
        let lines = sqlx::query(
            "SELECT segment_no, item, ledger_account, agency, label_zh, label_en, currency, clause,
                 tier, quantity::text AS quantity, quantity_unit, price::text AS price, price_unit,
                 proration_numerator, proration_denominator, exact::text AS exact,
                 amount::text AS amount, service_from, service_until, version_from, working
             FROM charge_lines WHERE bill_id = $1 ORDER BY segment_no, line_no",
        )
        .bind(uuid(bill))
        .fetch_all(&self.pool)
        .await
        .map_err(doing("read charge lines"))?;
        let appends = sqlx::query(
            "SELECT segment_no, household_id, agreement_id, item, window_from, window_until,
                 quantity::text AS quantity, unit
             FROM tier_ledger WHERE bill_id = $1 AND reverses IS NULL
             ORDER BY segment_no, append_no",
        )
        .bind(uuid(bill))
        .fetch_all(&self.pool)
        .await
        .map_err(doing("read tier usage"))?;
        let segments = sqlx::query(
            "SELECT segment_no, agreement_id, service_from, service_until, version_id,
                 version_hash, share_days, share_of_days, share_whole::text AS share_whole,
                 share_unit, determinants, total::text AS total
             FROM bill_segments WHERE bill_id = $1 ORDER BY segment_no",
        )
        .bind(uuid(bill))
        .fetch_all(&self.pool)
        .await
        .map_err(doing("read bill segments"))?;
        let segments: Vec<Segment> = segments
            .iter()
            .map(|row| segment(row, &lines, &appends))
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        let labels = Labels {
            account: row.try_get("account_number").map_err(doing("read a bill"))?,
            cycle: Some(format!("{} {}", cycle.book_code, cycle.name)),
            meters: self.meter_numbers(&segments).await?,
            utc_offset_minutes: cycle.utc_offset_minutes,
        };
        let draft = Draft::new(head.key, segments)
            .map_err(|source| ReadBillError::Contradiction { bill, source })?;
        let bill = head.live(draft).map_err(wrong)?;
        Ok(Some(StoredBill { bill, cycle, labels }))
    }

    /// The live bill of an account in a cycle: the regular one before the final one.
    ///
    /// # Errors
    /// When Postgres is away, or what is stored makes no sense.
    pub async fn bill_for(
        &self,
        account_number: &str,
        cycle: &Cycle,
    ) -> Result<Option<StoredBill>, ReadBillError> {
        let found: Option<Uuid> = sqlx::query_scalar(
            "SELECT b.id FROM bills b JOIN accounts a ON a.id = b.account_id
             WHERE a.number = $1 AND b.cycle_id = $2 AND b.state <> 'cancelled'
             ORDER BY b.kind DESC LIMIT 1",
        )
        .bind(account_number)
        .bind(i64::from(cycle.id))
        .fetch_optional(&self.pool)
        .await
        .map_err(doing("look for the bill of an account"))?;
        match found {
            Some(found) => self.bill(BillId::new(found.as_u128())).await,
            None => Ok(None),
        }
    }

    /// The bills of a cycle by account number, cancelled ones too; at most `limit`, those after
    /// the account number `after`.
    ///
    /// # Errors
    /// When Postgres is away, or what is stored makes no sense.
    pub async fn bills(
        &self,
        cycle: &Cycle,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<BillSummary>, ReadBillError> {
        let rows = sqlx::query(
            "SELECT b.id, b.account_id, a.number AS account_number, b.kind, b.revision, b.state,
                 b.total::text AS total, b.number
             FROM bills b JOIN accounts a ON a.id = b.account_id
             WHERE b.cycle_id = $1 AND ($2::text IS NULL OR a.number > $2)
             ORDER BY a.number, b.kind, b.revision LIMIT $3",
        )
        .bind(i64::from(cycle.id))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(doing("list the bills of a cycle"))?;
        let mut bills = Vec::with_capacity(rows.len());
        for row in &rows {
            let found: Uuid = row.try_get("id").map_err(doing("list the bills of a cycle"))?;
            let bill = BillId::new(found.as_u128());
            let summary = || -> Result<BillSummary, RowError> {
                Ok(BillSummary {
                    id: bill,
                    account: id(row, "account_id")?,
                    account_number: row.try_get("account_number")?,
                    kind: kind(row)?,
                    revision: revision(row)?,
                    state: row.try_get("state")?,
                    total: Money::yuan(decimal(row, "total")?),
                    number: row.try_get("number")?,
                })
            };
            bills.push(summary().map_err(|source| ReadBillError::Row { bill, source })?);
        }
        Ok(bills)
    }

    async fn meter_numbers(
        &self,
        segments: &[Segment],
    ) -> Result<BTreeMap<MeterId, String>, DatabaseError> {
        let meters: Vec<i64> = segments
            .iter()
            .flat_map(|segment| &segment.determinants)
            .flat_map(|determinant| &determinant.evidence)
            .filter_map(|evidence| match evidence {
                Evidence::Reads { start, .. } => Some(start.meter.into()),
                Evidence::Registry { .. } | Evidence::Given => None,
            })
            .collect();
        let numbers: Vec<(i64, String)> =
            sqlx::query_as("SELECT id, number FROM meters WHERE id = ANY($1)")
                .bind(&meters)
                .fetch_all(&self.pool)
                .await
                .map_err(doing("read meter numbers"))?;
        Ok(numbers
            .into_iter()
            .filter_map(|(id, number)| Some((MeterId::try_from(id).ok()?, number)))
            .collect())
    }
}

fn named<T>(
    row: &PgRow,
    column: &'static str,
    find: impl Fn(&str) -> Option<T>,
) -> Result<T, RowError> {
    let name: &str = row.try_get(column)?;
    find(name).ok_or_else(|| RowError::Name { column, value: name.to_owned() })
}

fn kind(row: &PgRow) -> Result<BillKind, RowError> {
    named(row, "kind", BillKind::from_name)
}

fn revision(row: &PgRow) -> Result<u16, RowError> {
    let revision: i32 = row.try_get("revision")?;
    u16::try_from(revision).map_err(|_| RowError::Range { column: "revision" })
}

fn head(row: &PgRow, cycle: &Cycle) -> Result<Head, RowError> {
    Ok(Head {
        key: BillKey {
            account: id(row, "account_id")?,
            cycle: cycle.period,
            kind: kind(row)?,
            revision: revision(row)?,
        },
        state: row.try_get("state")?,
        number: row.try_get("number")?,
        issued_on: row.try_get("issued_on")?,
        cancelled_on: row.try_get("cancelled_on")?,
        cancel_reason: row.try_get("cancel_reason")?,
    })
}

impl Head {
    /// The bill in the life it has reached.
    fn live(self, draft: Draft) -> Result<Bill, RowError> {
        let (Some(number), Some(issued_on)) = (self.number, self.issued_on) else {
            return Ok(Bill::Draft(draft));
        };
        let issued = draft.issue(BillNumber(number), issued_on);
        match (self.cancelled_on, self.cancel_reason) {
            (Some(on), Some(reason)) => Ok(Bill::Cancelled(issued.cancel(reason, on))),
            (None, None) => Ok(Bill::Issued(issued)),
            (Some(_), None) | (None, Some(_)) => {
                Err(RowError::Name { column: "state", value: self.state })
            }
        }
    }
}

fn segment(row: &PgRow, lines: &[PgRow], appends: &[PgRow]) -> Result<Segment, RowError> {
    let number: i16 = row.try_get("segment_no")?;
    let in_it = |other: &&PgRow| other.try_get::<i16, _>("segment_no").is_ok_and(|n| n == number);
    let Json(determinants): Json<Vec<BillingDeterminant>> = row.try_get("determinants")?;
    let days: Option<i32> = row.try_get("share_days")?;
    let share = match days {
        None => None,
        Some(days) => {
            let of_days: i32 = row.try_get("share_of_days")?;
            let whole = decimal(row, "share_whole")?;
            Some(DayShare {
                days: u32::try_from(days).map_err(|_| RowError::Range { column: "share_days" })?,
                of_days: u32::try_from(of_days)
                    .map_err(|_| RowError::Range { column: "share_of_days" })?,
                whole: Quantity::new(whole, unit(row, "share_unit")?),
            })
        }
    };
    Ok(Segment {
        agreement: id(row, "agreement_id")?,
        service: period(row, "service_from", "service_until")?,
        version: VersionRef { version: id(row, "version_id")?, hash: hash(row, "version_hash")? },
        share,
        determinants,
        lines: lines.iter().filter(in_it).map(line).collect::<Result<_, _>>()?,
        total: Money::yuan(decimal(row, "total")?),
        tier_appends: appends.iter().filter(in_it).map(append).collect::<Result<_, _>>()?,
    })
}

fn line(row: &PgRow) -> Result<BillLine, RowError> {
    let item: &str = row.try_get("item")?;
    let tier: Option<i16> = row.try_get("tier")?;
    let part = |column: &'static str| -> Result<u32, RowError> {
        let number: i64 = row.try_get(column)?;
        u32::try_from(number).map_err(|_| RowError::Range { column })
    };
    Ok(BillLine {
        item: Arc::new(ItemFacts {
            id: Arc::from(item),
            ledger_account: row.try_get("ledger_account")?,
            agency: row.try_get("agency")?,
            label_zh: row.try_get("label_zh")?,
            label_en: row.try_get("label_en")?,
            currency: row.try_get("currency")?,
        }),
        clause: row.try_get("clause")?,
        tier: tier.map(u8::try_from).transpose().map_err(|_| RowError::Range { column: "tier" })?,
        quantity: Quantity::new(decimal(row, "quantity")?, unit(row, "quantity_unit")?),
        price: Price::new(decimal(row, "price")?, unit(row, "price_unit")?),
        proration: Proration {
            numerator: part("proration_numerator")?,
            denominator: NonZeroU32::new(part("proration_denominator")?)
                .ok_or(RowError::Range { column: "proration_denominator" })?,
        },
        exact: Money::yuan(decimal(row, "exact")?),
        amount: Money::yuan(decimal(row, "amount")?),
        service: period(row, "service_from", "service_until")?,
        version_from: row.try_get("version_from")?,
        working: row.try_get("working")?,
    })
}

fn append(row: &PgRow) -> Result<TierAppend, RowError> {
    let household: Option<i64> = row.try_get("household_id")?;
    let item: &str = row.try_get("item")?;
    Ok(TierAppend {
        holder: match household {
            Some(household) => TierHolder::Household(HouseholdId::try_from(household)?),
            None => TierHolder::Agreement(id::<AgreementId>(row, "agreement_id")?),
        },
        item: Arc::from(item),
        window: period(row, "window_from", "window_until")?,
        quantity: Quantity::new(decimal(row, "quantity")?, unit(row, "unit")?),
    })
}
