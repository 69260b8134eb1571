//! Cycles, and what a cycle has to bill.
//!
//! In: a cycle. Out: accounts with agreements, households, meters and the reads they were last
//! billed until; rate versions; tier usage. Never here: reads, determinants, prices.

use crate::{DatabaseError, RowError, Store, store::doing};
use billing::{ExcuseReason, TierHolder, WindowUsed};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use model::{
    AccountId, AgreementId, BookId, Commodity, CycleId, EvidenceRead, HouseholdId, InstantPeriod,
    MeterId, Period, Quantity, ScheduleId, ScheduleVersionId, ServicePointId, Unit,
};
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};
use sqlx::{Row, postgres::PgRow, types::Json};
use std::collections::{BTreeSet, HashMap};

/// One billing period of a book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Its id.
    pub id: CycleId,
    /// Its book.
    pub book: BookId,
    /// The book's code.
    pub book_code: String,
    /// Its name in the book: `2026-01`.
    pub name: String,
    /// Its days, local to the utility.
    pub period: Period,
    /// The utility's local time, minutes east of UTC.
    pub utc_offset_minutes: i32,
}

impl Cycle {
    /// The instants its days stand for; `None` beyond the years a calendar knows.
    #[must_use]
    pub fn instants(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let offset = TimeDelta::minutes(i64::from(self.utc_offset_minutes));
        let midnight =
            |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().checked_sub_signed(offset);
        Some((midnight(self.period.from())?, midnight(self.period.until())?))
    }
}

/// An account of a cycle's book, billable or not.
#[derive(Debug, Clone, PartialEq)]
pub struct BillableAccount {
    /// The account.
    pub account: AccountId,
    /// Its number (户号).
    pub number: String,
    /// Whether a live bill for this cycle exists already.
    pub billed: bool,
    /// The revision a new regular bill of this cycle gets.
    pub revision: u16,
    /// Agreements that run on at least one day of the cycle, oldest first.
    pub agreements: Vec<BillableAgreement>,
    /// Why the account rightly gets no bill, when no agreement runs.
    pub excuse: Option<ExcuseReason>,
}

/// An agreement that runs on at least one day of the cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct BillableAgreement {
    /// The agreement.
    pub agreement: AgreementId,
    /// Where.
    pub service_point: ServicePointId,
    /// The service point's code.
    pub service_point_code: String,
    /// What is delivered.
    pub commodity: Commodity,
    /// First day of the agreement.
    pub from: NaiveDate,
    /// First day it no longer runs.
    pub until: Option<NaiveDate>,
    /// Its days in the cycle.
    pub service: Period,
    /// Customer class.
    pub class: String,
    /// The schedule.
    pub schedule: ScheduleId,
    /// The household whose windows it fills.
    pub household: Option<BillableHousehold>,
    /// Meters at the service point during the cycle, by time, then by meter.
    pub meters: Vec<BillableMeter>,
}

/// A household during the cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillableHousehold {
    /// The household.
    pub household: HouseholdId,
    /// How many people belong to it on which days of the cycle, by time; days may be missing.
    pub persons: Vec<(Period, u16)>,
}

/// A meter at the service point.
#[derive(Debug, Clone, PartialEq)]
pub struct BillableMeter {
    /// The meter.
    pub meter: MeterId,
    /// Its number (表号).
    pub number: String,
    /// When it hung there.
    pub during: InstantPeriod,
    /// What one unit of the register stands for (倍率).
    pub multiplier: Decimal,
    /// What the fitter read when it was put in, in the register's smallest unit.
    pub opening_count: i64,
    /// What the fitter read when it was taken out.
    pub closing_count: Option<i64>,
    /// Digits of the billing register.
    pub register_digits: u8,
    /// Power of ten of its last digit, in `register_unit`.
    pub register_exponent: i8,
    /// Its unit.
    pub register_unit: Unit,
    /// Nominal calibre, mm.
    pub calibre_mm: Option<u16>,
    /// The most it can pass in an hour, in `register_unit`.
    pub hourly_max: Decimal,
    /// What one pulse is worth, in `register_unit`.
    pub pulse_weight: Option<Decimal>,
    /// The reads live bills of earlier cycles ended with, the latest per register.
    pub billed_until: Vec<EvidenceRead>,
}

/// The text of a schedule in force for a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateVersion {
    /// Its id.
    pub version: ScheduleVersionId,
    /// Its schedule.
    pub schedule: ScheduleId,
    /// The schedule's code.
    pub schedule_code: String,
    /// First service date it prices.
    pub from: NaiveDate,
    /// First service date it no longer prices.
    pub until: Option<NaiveDate>,
    /// The text.
    pub text: String,
    /// SHA-256 of the text.
    pub hash: [u8; 32],
}

/// One hash over the rates a run uses (decision 10): the same versions in any order give the
/// same hash.
#[must_use]
pub fn rates_hash(versions: &[RateVersion]) -> [u8; 32] {
    let each: BTreeSet<_> = versions
        .iter()
        .map(|version| (version.schedule_code.as_str(), version.from, version.until, version.hash))
        .collect();
    let mut hash = Sha256::new();
    for (code, from, until, text) in each {
        let until = until.map(|day| day.to_string()).unwrap_or_default();
        hash.update(format!("{code}\0{from}\0{until}\0").as_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// Why a question about a cycle has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// Postgres refused or is away.
    #[error("ask what a cycle has to bill")]
    Database(#[from] DatabaseError),
    /// A row holds something this program does not know.
    #[error("read what a cycle has to bill: {what}")]
    Row {
        /// Which row.
        what: String,
        /// What is in the way.
        source: RowError,
    },
    /// A window's ledger rows are in another unit than the schedule asks for.
    #[error("the tier ledger of {item:?} from {from} is not in {unit}")]
    TierUnit {
        /// The item.
        item: String,
        /// First day of the window.
        from: NaiveDate,
        /// The unit asked for.
        unit: Unit,
    },
    /// The cycle lies beyond the years a calendar knows.
    #[error("cycle {0} lies beyond the calendar")]
    Calendar(CycleId),
}

fn row_error(what: &str) -> impl Fn(RowError) -> CycleError + '_ {
    move |source| CycleError::Row { what: what.to_owned(), source }
}

const CYCLES: &str = "SELECT c.id, c.book_id, b.code AS book_code, c.name, c.from_day, c.until_day,
        o.utc_offset_minutes
    FROM cycles c JOIN books b ON b.id = c.book_id JOIN organisations o ON o.id = b.organisation_id
    WHERE ($1::text IS NULL OR b.code = $1) AND ($2::text IS NULL OR c.name = $2)
        AND ($3::bigint IS NULL OR c.id = $3)
    ORDER BY c.from_day, b.code";

impl Store {
    /// Every cycle, by its first day, then by book.
    ///
    /// # Errors
    /// When Postgres is away or a row makes no sense.
    pub async fn cycles(&self) -> Result<Vec<Cycle>, CycleError> {
        self.cycles_where(None, None, None).await
    }

    /// The cycle `name` of book `book_code`.
    ///
    /// # Errors
    /// When Postgres is away or the row makes no sense.
    pub async fn cycle(&self, book_code: &str, name: &str) -> Result<Option<Cycle>, CycleError> {
        Ok(self.cycles_where(Some(book_code), Some(name), None).await?.pop())
    }

    pub(crate) async fn cycles_where(
        &self,
        book_code: Option<&str>,
        name: Option<&str>,
        id: Option<CycleId>,
    ) -> Result<Vec<Cycle>, CycleError> {
        let rows = sqlx::query(CYCLES)
            .bind(book_code)
            .bind(name)
            .bind(id.map(i64::from))
            .fetch_all(&self.pool)
            .await
            .map_err(doing("read the cycles"))?;
        rows.iter().map(|row| cycle(row).map_err(row_error("cycles"))).collect()
    }

    /// The accounts of the cycle's book with an id above `after`, at most `limit`, by id, with
    /// everything a bill needs of the registry. Call again with the last account until the
    /// answer is empty: memory stays bounded however large the book is.
    ///
    /// # Errors
    /// When Postgres is away or a row makes no sense.
    pub async fn billable(
        &self,
        cycle: &Cycle,
        after: Option<AccountId>,
        limit: u32,
    ) -> Result<Vec<BillableAccount>, CycleError> {
        let (from_at, until_at) = cycle.instants().ok_or(CycleError::Calendar(cycle.id))?;
        let mut tx = self.pool.begin().await.map_err(doing("begin reading a book"))?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .execute(&mut *tx)
            .await
            .map_err(doing("begin reading a book"))?;
        let rows = sqlx::query(BILLABLE)
            .bind(i64::from(cycle.book))
            .bind(after.map(i64::from))
            .bind(i64::from(limit))
            .bind(i64::from(cycle.id))
            .fetch_all(&mut *tx)
            .await
            .map_err(doing("read the accounts of a book"))?;
        let mut page = Page::default();
        for row in &rows {
            page.take_account(row, cycle).map_err(row_error("accounts"))?;
        }
        let places: Vec<i64> = page.agreements().map(|a| a.service_point.into()).collect();
        let rows = sqlx::query(METERS)
            .bind(&places)
            .bind(from_at)
            .bind(until_at)
            .fetch_all(&mut *tx)
            .await
            .map_err(doing("read the meters of a book"))?;
        let mut meters: HashMap<ServicePointId, Vec<BillableMeter>> = HashMap::new();
        let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
        for row in &rows {
            let (place, meter) = meter(row).map_err(row_error("installed meters"))?;
            ids.push(meter.meter.into());
            meters.entry(place).or_default().push(meter);
        }
        let rows = sqlx::query(BILLED_READS)
            .bind(&ids)
            .bind(cycle.period.from())
            .fetch_all(&mut *tx)
            .await
            .map_err(doing("read the reads of earlier bills"))?;
        let mut billed: HashMap<MeterId, Vec<EvidenceRead>> = HashMap::new();
        for row in &rows {
            let Json(read): Json<EvidenceRead> =
                row.try_get("read").map_err(doing("read the reads of earlier bills"))?;
            billed.entry(read.meter).or_default().push(read);
        }
        let households: Vec<i64> = page
            .agreements()
            .filter_map(|a| a.household.as_ref().map(|h| h.household.into()))
            .collect();
        let rows = sqlx::query(PERSONS)
            .bind(&households)
            .bind(cycle.period.from())
            .bind(cycle.period.until())
            .fetch_all(&mut *tx)
            .await
            .map_err(doing("read the households of a book"))?;
        let mut persons: HashMap<HouseholdId, Vec<(Period, u16)>> = HashMap::new();
        for row in &rows {
            let (household, span) =
                persons_of(row, cycle).map_err(row_error("household persons"))?;
            persons.entry(household).or_default().push(span);
        }
        tx.commit().await.map_err(doing("end reading a book"))?;
        for agreement in page.accounts.iter_mut().flat_map(|a| &mut a.agreements) {
            agreement.meters = meters.get(&agreement.service_point).cloned().unwrap_or_default();
            for meter in &mut agreement.meters {
                meter.billed_until = billed.get(&meter.meter).cloned().unwrap_or_default();
            }
            if let Some(household) = &mut agreement.household {
                household.persons = persons.get(&household.household).cloned().unwrap_or_default();
            }
        }
        Ok(page.accounts)
    }

    /// The active rate versions that price days of the cycle, for every schedule an agreement of
    /// the book is under.
    ///
    /// # Errors
    /// When Postgres is away or a row makes no sense.
    pub async fn rate_versions(&self, cycle: &Cycle) -> Result<Vec<RateVersion>, CycleError> {
        let rows = sqlx::query(
            "SELECT v.id, v.schedule_id, s.code, v.valid_from, v.valid_until, v.text, v.hash
             FROM rate_versions v JOIN rate_schedules s ON s.id = v.schedule_id
             WHERE v.state = 'active'
               AND daterange(v.valid_from, v.valid_until) && daterange($2, $3)
               AND EXISTS (SELECT FROM service_agreements g JOIN accounts a ON a.id = g.account_id
                   WHERE a.book_id = $1 AND g.schedule_id = s.id)
             ORDER BY s.code, v.valid_from",
        )
        .bind(i64::from(cycle.book))
        .bind(cycle.period.from())
        .bind(cycle.period.until())
        .fetch_all(&self.pool)
        .await
        .map_err(doing("read the rate versions"))?;
        rows.iter().map(|row| rate_version(row).map_err(row_error("rate versions"))).collect()
    }

    /// What each window has used so far, in the order asked: the sum of the ledger, zero where
    /// it is silent. A window is known by its holder, its item and its first day.
    ///
    /// # Errors
    /// When Postgres is away, or a window was booked in another unit than asked for.
    pub async fn tier_usage(&self, windows: &[WindowUsed]) -> Result<Vec<WindowUsed>, CycleError> {
        let mut answer = windows.to_vec();
        let by_household = tier_numbers(windows, |holder| match holder {
            TierHolder::Household(household) => Some(household.into()),
            TierHolder::Agreement(_) => None,
        });
        let by_agreement = tier_numbers(windows, |holder| match holder {
            TierHolder::Household(_) => None,
            TierHolder::Agreement(agreement) => Some(agreement.into()),
        });
        for (sql, (positions, holders)) in
            [(HOUSEHOLD_USAGE, by_household), (AGREEMENT_USAGE, by_agreement)]
        {
            if positions.is_empty() {
                continue;
            }
            let asked =
                || positions.iter().filter_map(|at| windows.get(usize::try_from(*at).ok()?));
            let items: Vec<&str> = asked().map(|w| &*w.used.item).collect();
            let froms: Vec<NaiveDate> = asked().map(|w| w.used.window.from()).collect();
            let units: Vec<&str> = asked().map(|w| w.used.quantity.unit.symbol()).collect();
            let rows = sqlx::query(sql)
                .bind(&positions)
                .bind(&holders)
                .bind(&items)
                .bind(&froms)
                .bind(&units)
                .fetch_all(&self.pool)
                .await
                .map_err(doing("sum up the tier ledger"))?;
            for row in &rows {
                let take = || -> Result<_, RowError> {
                    let at: i32 = row.try_get("position")?;
                    let at =
                        usize::try_from(at).map_err(|_| RowError::Range { column: "position" })?;
                    Ok((at, decimal(row, "used")?, row.try_get::<bool, _>("same_unit")?))
                };
                let (at, used, same_unit) = take().map_err(row_error("tier ledger"))?;
                let Some(window) = answer.get_mut(at) else { continue };
                if !same_unit {
                    return Err(CycleError::TierUnit {
                        item: window.used.item.to_string(),
                        from: window.used.window.from(),
                        unit: window.used.quantity.unit,
                    });
                }
                window.used.quantity = Quantity::new(used, window.used.quantity.unit);
            }
        }
        Ok(answer)
    }
}

fn tier_numbers(
    windows: &[WindowUsed],
    of: impl Fn(TierHolder) -> Option<i64>,
) -> (Vec<i32>, Vec<i64>) {
    (0_i32..)
        .zip(windows)
        .filter_map(|(position, window)| of(window.holder).map(|holder| (position, holder)))
        .unzip()
}

const HOUSEHOLD_USAGE: &str = "SELECT w.position, sum(t.quantity)::text AS used,
        bool_and(t.unit = w.unit) AS same_unit
    FROM unnest($1::int[], $2::bigint[], $3::text[], $4::date[], $5::text[])
        AS w (position, holder, item, from_day, unit)
    JOIN tier_ledger t ON t.household_id = w.holder AND t.item = w.item
        AND t.window_from = w.from_day
    GROUP BY w.position";
const AGREEMENT_USAGE: &str = "SELECT w.position, sum(t.quantity)::text AS used,
        bool_and(t.unit = w.unit) AS same_unit
    FROM unnest($1::int[], $2::bigint[], $3::text[], $4::date[], $5::text[])
        AS w (position, holder, item, from_day, unit)
    JOIN tier_ledger t ON t.agreement_id = w.holder AND t.item = w.item
        AND t.window_from = w.from_day
    GROUP BY w.position";

const BILLABLE: &str = "WITH page AS (
        SELECT id, number FROM accounts
        WHERE book_id = $1 AND ($2::bigint IS NULL OR id > $2) ORDER BY id LIMIT $3)
    SELECT p.id AS account_id, p.number,
        EXISTS (SELECT FROM bills b WHERE b.account_id = p.id AND b.cycle_id = $4
            AND b.state <> 'cancelled') AS billed,
        (SELECT coalesce(max(b.revision) + 1, 0) FROM bills b WHERE b.account_id = p.id
            AND b.cycle_id = $4 AND b.kind = 'regular') AS revision,
        g.id AS agreement_id, g.service_point_id, s.code, g.commodity, g.from_day, g.until_day,
        g.class, g.schedule_id, g.household_id
    FROM page p
    LEFT JOIN service_agreements g ON g.account_id = p.id
    LEFT JOIN service_points s ON s.id = g.service_point_id
    ORDER BY p.id, g.from_day, g.id";

const METERS: &str =
    "SELECT i.service_point_id, m.id, m.number, i.from_at, i.until_at, i.multiplier,
        i.opening_count, i.closing_count, k.register_digits, k.register_exponent, k.register_unit,
        k.calibre_mm, k.hourly_max, k.pulse_weight
    FROM installed_meters i
    JOIN meters m ON m.id = i.meter_id
    JOIN meter_models k ON k.id = m.model_id
    WHERE i.service_point_id = ANY($1) AND tstzrange(i.from_at, i.until_at) && tstzrange($2, $3)
    ORDER BY i.service_point_id, i.from_at, m.id";

const BILLED_READS: &str = "SELECT DISTINCT ON (r.meter_id, r.register) r.read
    FROM billed_reads r
    JOIN bills b ON b.id = r.bill_id AND b.state <> 'cancelled'
    JOIN cycles c ON c.id = b.cycle_id
    WHERE r.meter_id = ANY($1) AND c.from_day < $2
    ORDER BY r.meter_id, r.register, r.measured_at DESC";

const PERSONS: &str = "SELECT household_id, from_day, until_day, persons
    FROM household_persons
    WHERE household_id = ANY($1) AND daterange(from_day, until_day) && daterange($2, $3)
    ORDER BY household_id, from_day";

/// An exact decimal column selected `::text`: that way it keeps its decimals.
pub(crate) fn decimal(row: &PgRow, column: &'static str) -> Result<Decimal, RowError> {
    let text: &str = row.try_get(column)?;
    Decimal::from_str_exact(text).map_err(|_| RowError::Range { column })
}

pub(crate) fn unit(row: &PgRow, column: &'static str) -> Result<Unit, RowError> {
    Ok(row.try_get::<&str, _>(column)?.parse()?)
}

pub(crate) fn period(row: &PgRow, from: &str, until: &str) -> Result<Period, RowError> {
    Ok(Period::new(row.try_get(from)?, row.try_get(until)?)?)
}

pub(crate) fn id<T: TryFrom<i64, Error = model::IdOutOfRange>>(
    row: &PgRow,
    column: &str,
) -> Result<T, RowError> {
    Ok(T::try_from(row.try_get::<i64, _>(column)?)?)
}

pub(crate) fn hash(row: &PgRow, column: &'static str) -> Result<[u8; 32], RowError> {
    row.try_get::<&[u8], _>(column)?.try_into().map_err(|_| RowError::Range { column })
}

fn cycle(row: &PgRow) -> Result<Cycle, RowError> {
    Ok(Cycle {
        id: id(row, "id")?,
        book: id(row, "book_id")?,
        book_code: row.try_get("book_code")?,
        name: row.try_get("name")?,
        period: period(row, "from_day", "until_day")?,
        utc_offset_minutes: row.try_get::<i16, _>("utc_offset_minutes")?.into(),
    })
}

fn rate_version(row: &PgRow) -> Result<RateVersion, RowError> {
    Ok(RateVersion {
        version: id(row, "id")?,
        schedule: id(row, "schedule_id")?,
        schedule_code: row.try_get("code")?,
        from: row.try_get("valid_from")?,
        until: row.try_get("valid_until")?,
        text: row.try_get("text")?,
        hash: hash(row, "hash")?,
    })
}

#[derive(Default)]
struct Page {
    accounts: Vec<BillableAccount>,
}

impl Page {
    fn agreements(&self) -> impl Iterator<Item = &BillableAgreement> {
        self.accounts.iter().flat_map(|account| &account.agreements)
    }

    /// One row is one agreement; an account without any comes as one row of nulls.
    fn take_account(&mut self, row: &PgRow, cycle: &Cycle) -> Result<(), RowError> {
        let account: AccountId = id(row, "account_id")?;
        if self.accounts.last().is_none_or(|last| last.account != account) {
            let revision: i32 = row.try_get("revision")?;
            self.accounts.push(BillableAccount {
                account,
                number: row.try_get("number")?,
                billed: row.try_get("billed")?,
                revision: u16::try_from(revision)
                    .map_err(|_| RowError::Range { column: "revision" })?,
                agreements: Vec::new(),
                excuse: Some(ExcuseReason::NoAgreement),
            });
        }
        let Some(current) = self.accounts.last_mut() else { return Ok(()) };
        let Some(agreement) = row.try_get::<Option<i64>, _>("agreement_id")? else {
            return Ok(());
        };
        let from: NaiveDate = row.try_get("from_day")?;
        let until: Option<NaiveDate> = row.try_get("until_day")?;
        let last = until.map_or(cycle.period.until(), |day| day.min(cycle.period.until()));
        let Ok(service) = Period::new(from.max(cycle.period.from()), last) else {
            // Agreements come by their first day, so the latest one decides.
            if current.agreements.is_empty() {
                current.excuse = Some(if from >= cycle.period.until() {
                    ExcuseReason::OpensAfter
                } else {
                    ExcuseReason::ClosedBefore
                });
            }
            return Ok(());
        };
        current.excuse = None;
        let household: Option<i64> = row.try_get("household_id")?;
        let household = household.map(HouseholdId::try_from).transpose()?;
        let commodity: &str = row.try_get("commodity")?;
        current.agreements.push(BillableAgreement {
            agreement: AgreementId::try_from(agreement)?,
            service_point: id(row, "service_point_id")?,
            service_point_code: row.try_get("code")?,
            commodity: commodity.parse()?,
            from,
            until,
            service,
            class: row.try_get("class")?,
            schedule: id(row, "schedule_id")?,
            household: household
                .map(|household| BillableHousehold { household, persons: Vec::new() }),
            meters: Vec::new(),
        });
        Ok(())
    }
}

fn meter(row: &PgRow) -> Result<(ServicePointId, BillableMeter), RowError> {
    let small = |column: &'static str| -> Result<i16, RowError> { Ok(row.try_get(column)?) };
    let calibre: Option<i32> = row.try_get("calibre_mm")?;
    let meter = BillableMeter {
        meter: id(row, "id")?,
        number: row.try_get("number")?,
        during: InstantPeriod::new(row.try_get("from_at")?, row.try_get("until_at")?)?,
        multiplier: row.try_get("multiplier")?,
        opening_count: row.try_get("opening_count")?,
        closing_count: row.try_get("closing_count")?,
        register_digits: u8::try_from(small("register_digits")?)
            .map_err(|_| RowError::Range { column: "register_digits" })?,
        register_exponent: i8::try_from(small("register_exponent")?)
            .map_err(|_| RowError::Range { column: "register_exponent" })?,
        register_unit: unit(row, "register_unit")?,
        calibre_mm: calibre
            .map(u16::try_from)
            .transpose()
            .map_err(|_| RowError::Range { column: "calibre_mm" })?,
        hourly_max: row.try_get("hourly_max")?,
        pulse_weight: row.try_get("pulse_weight")?,
        billed_until: Vec::new(),
    };
    Ok((id(row, "service_point_id")?, meter))
}

fn persons_of(row: &PgRow, cycle: &Cycle) -> Result<(HouseholdId, (Period, u16)), RowError> {
    let from: NaiveDate = row.try_get("from_day")?;
    let until: Option<NaiveDate> = row.try_get("until_day")?;
    let until = until.map_or(cycle.period.until(), |day| day.min(cycle.period.until()));
    let days = Period::new(from.max(cycle.period.from()), until)?;
    let persons = u16::try_from(row.try_get::<i16, _>("persons")?)
        .map_err(|_| RowError::Range { column: "persons" })?;
    Ok((id(row, "household_id")?, (days, persons)))
}
