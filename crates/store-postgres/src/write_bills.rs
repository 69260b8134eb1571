//! Writes the bills of a run, chunk by chunk: none twice, none missing.
//!
//! In: drafts, accounts put aside, accounts excused. Out: what became of them.
//! Never here: how a bill came about (see `billing`), numbers (see `issue`).
//!
//! One transaction per chunk: check the fence, COPY into temporary tables, insert what is not
//! there yet. A chunk that was interrupted is simply written again.

use crate::{
    DatabaseError, RunGuard, RunId, Store,
    copy::{CopyRows, Exact, Jsonb},
    store::doing,
};
use billing::{Draft, Excused, Hold, HoldReason, TierHolder};
use model::{AccountId, BillId, Evidence, EvidenceRead, Period};
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A part of a run, written at once. Some thousand accounts make a good chunk.
#[derive(Debug, Clone, Copy, Default)]
pub struct BillChunk<'a> {
    /// Bills.
    pub drafts: &'a [Draft],
    /// Accounts put aside.
    pub holds: &'a [Hold],
    /// Accounts that rightly get no bill.
    pub excused: &'a [Excused],
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteReport {
    /// Bills written now.
    pub written: u64,
    /// Bills that were there already.
    pub already_there: u64,
    /// Accounts whose days another live bill covers; they are held, not billed twice.
    pub days_billed_before: Vec<AccountId>,
    /// Accounts put aside now, the ones above included.
    pub held: u64,
    /// Accounts excused now.
    pub excused: u64,
}

/// Why a chunk was not written; then nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteBillsError {
    /// Postgres refused or is away.
    #[error("write bills")]
    Database(#[from] DatabaseError),
    /// Another process has taken the run up.
    #[error("run {run} was taken up by another process")]
    TakenOver {
        /// The run.
        run: RunId,
    },
    /// A draft is for another cycle than the run.
    #[error("the bill of account {account} is for {is}, the run for {want}")]
    OtherCycle {
        /// Whose bill.
        account: AccountId,
        /// Its cycle.
        is: Period,
        /// The run's cycle.
        want: Period,
    },
    /// More segments or lines than a bill can have (32767).
    #[error("the bill of account {account} has too many segments or lines")]
    TooLong {
        /// Whose bill.
        account: AccountId,
    },
}

pub(crate) fn uuid(bill: BillId) -> Uuid {
    Uuid::from_u128(bill.number())
}

struct Staged {
    bills: CopyRows,
    segments: CopyRows,
    lines: CopyRows,
    tiers: CopyRows,
    reads: CopyRows,
}

impl Store {
    /// Writes a chunk of the run. Writing the same chunk again changes nothing; an account that
    /// gets a bill no longer waits, one that has a bill is not put aside.
    ///
    /// # Errors
    /// When the run was taken over, a draft does not belong to it, or Postgres refuses; then
    /// nothing of the chunk was written.
    pub async fn write_bills(
        &self,
        guard: &RunGuard,
        chunk: BillChunk<'_>,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<WriteReport, WriteBillsError> {
        let run = guard.run();
        let staged = stage(guard, chunk.drafts)?;
        let mut tx = self.pool.begin().await.map_err(doing("begin a chunk of bills"))?;
        let ours = sqlx::query(
            "SELECT 1 FROM bill_runs WHERE id = $1 AND attempt = $2 AND state = 'running'
             FOR SHARE",
        )
        .bind(run.id.0)
        .bind(i64::from(run.attempt))
        .fetch_optional(&mut *tx)
        .await
        .map_err(doing("check that the run is still ours"))?;
        if ours.is_none() {
            return Err(WriteBillsError::TakenOver { run: run.id });
        }
        for sql in STAGES {
            sqlx::query(sql).execute(&mut *tx).await.map_err(doing("make room for bills"))?;
        }
        staged.bills.send(&mut tx, COPY_BILLS).await?;
        staged.segments.send(&mut tx, COPY_SEGMENTS).await?;
        staged.lines.send(&mut tx, COPY_LINES).await?;
        staged.tiers.send(&mut tx, COPY_TIERS).await?;
        staged.reads.send(&mut tx, COPY_READS).await?;

        run_sql(&mut tx, "ANALYZE staged_bills, staged_segments", "look at the chunk").await?;

        let mut report = WriteReport::default();
        let mut holds = chunk.holds.to_vec();
        let twice = sqlx::query(TAKE_OUT_DAYS_BILLED_BEFORE)
            .fetch_all(&mut *tx)
            .await
            .map_err(doing("look for days that are billed already"))?;
        for row in &twice {
            let what = || doing("read days that are billed already");
            let account: i64 = row.try_get("account_id").map_err(what())?;
            let other: Uuid = row.try_get("other").map_err(what())?;
            let days: String = row.try_get("days").map_err(what())?;
            let Ok(account) = AccountId::try_from(account) else { continue };
            let message = format!("bill {} covers {days} already", other.simple());
            holds.push(Hold { account, reason: HoldReason::new("days_billed_before", message) });
            report.days_billed_before.push(account);
        }
        report.written = run_sql(&mut tx, INSERT_BILLS, "insert bills").await?;
        for (sql, what) in [
            (INSERT_SEGMENTS, "insert bill segments"),
            (INSERT_LINES, "insert charge lines"),
            (INSERT_TIERS, "append to the tier ledger"),
            (INSERT_READS, "note the reads that are billed"),
        ] {
            run_sql(&mut tx, sql, what).await?;
        }
        let given = u64::try_from(chunk.drafts.len()).unwrap_or(u64::MAX);
        let before = u64::try_from(report.days_billed_before.len()).unwrap_or(u64::MAX);
        report.already_there = given.saturating_sub(report.written).saturating_sub(before);
        report.held = put_aside(&mut tx, guard, &holds, now).await?;
        report.excused = excuse(&mut tx, guard, chunk.excused, now).await?;
        sqlx::query(
            "UPDATE held_accounts h SET released_at = $2, released_because = 'billed'
             FROM staged_bills s
             WHERE h.account_id = s.account_id AND h.cycle_id = $1 AND h.released_at IS NULL
               AND EXISTS (SELECT FROM bills b WHERE b.account_id = s.account_id
                   AND b.cycle_id = $1 AND b.state <> 'cancelled')",
        )
        .bind(i64::from(run.cycle.id))
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(doing("release billed accounts"))?;
        tx.commit().await.map_err(doing("commit a chunk of bills"))?;
        Ok(report)
    }
}

async fn run_sql(
    connection: &mut PgConnection,
    sql: &'static str,
    what: &str,
) -> Result<u64, DatabaseError> {
    Ok(sqlx::query(sql).execute(connection).await.map_err(doing(what))?.rows_affected())
}

/// Puts accounts aside that have no live bill; an account that waits already waits for the
/// newer reason.
async fn put_aside(
    connection: &mut PgConnection,
    guard: &RunGuard,
    holds: &[Hold],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<u64, DatabaseError> {
    // The last reason given for an account counts.
    let by_account: BTreeMap<AccountId, &HoldReason> =
        holds.iter().map(|hold| (hold.account, &hold.reason)).collect();
    let accounts: Vec<i64> = by_account.keys().map(|account| i64::from(*account)).collect();
    let codes: Vec<&str> = by_account.values().map(|reason| &*reason.code).collect();
    let messages: Vec<String> = by_account
        .values()
        .map(|reason| reason.message.chars().filter(|c| *c != '\0').take(2000).collect())
        .collect();
    let held = sqlx::query(
        "INSERT INTO held_accounts (account_id, cycle_id, run_id, reason_code, message, held_at)
         SELECT s.account_id, $1, $2, s.code, s.message, $3
         FROM unnest($4::bigint[], $5::text[], $6::text[]) AS s (account_id, code, message)
         WHERE NOT EXISTS (SELECT FROM bills b WHERE b.account_id = s.account_id
             AND b.cycle_id = $1 AND b.state <> 'cancelled')
         ON CONFLICT (account_id, cycle_id) WHERE released_at IS NULL
         DO UPDATE SET run_id = excluded.run_id, reason_code = excluded.reason_code,
             message = excluded.message",
    )
    .bind(i64::from(guard.run().cycle.id))
    .bind(guard.run().id.0)
    .bind(now)
    .bind(&accounts)
    .bind(&codes)
    .bind(&messages)
    .execute(connection)
    .await
    .map_err(doing("put accounts aside"))?;
    Ok(held.rows_affected())
}

async fn excuse(
    connection: &mut PgConnection,
    guard: &RunGuard,
    excused: &[Excused],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<u64, DatabaseError> {
    let cycle = i64::from(guard.run().cycle.id);
    let by_account: BTreeMap<AccountId, &'static str> =
        excused.iter().map(|excused| (excused.account, excused.reason.code())).collect();
    let accounts: Vec<i64> = by_account.keys().map(|account| i64::from(*account)).collect();
    let codes: Vec<&str> = by_account.values().copied().collect();
    sqlx::query(
        "UPDATE held_accounts SET released_at = $2, released_because = 'excused'
         WHERE cycle_id = $1 AND account_id = ANY($3) AND released_at IS NULL",
    )
    .bind(cycle)
    .bind(now)
    .bind(&accounts)
    .execute(&mut *connection)
    .await
    .map_err(doing("release excused accounts"))?;
    let excused = sqlx::query(
        "INSERT INTO excused_accounts (account_id, cycle_id, run_id, reason_code)
         SELECT s.account_id, $1, $2, s.code
         FROM unnest($3::bigint[], $4::text[]) AS s (account_id, code)
         ON CONFLICT (cycle_id, account_id) DO UPDATE
         SET run_id = excluded.run_id, reason_code = excluded.reason_code",
    )
    .bind(cycle)
    .bind(guard.run().id.0)
    .bind(&accounts)
    .bind(&codes)
    .execute(connection)
    .await
    .map_err(doing("excuse accounts"))?;
    Ok(excused.rows_affected())
}

const STAGES: [&str; 6] = [
    "CREATE TEMPORARY TABLE staged_bills (LIKE bills) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE staged_segments (LIKE bill_segments) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE staged_lines (LIKE charge_lines) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE staged_tiers (household_id bigint, agreement_id bigint, item text,
         window_from date, window_until date, quantity numeric, unit text, bill_id uuid,
         segment_no smallint, append_no smallint) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE staged_reads (LIKE billed_reads) ON COMMIT DROP",
    "CREATE TEMPORARY TABLE new_bills (id uuid PRIMARY KEY) ON COMMIT DROP",
];

const COPY_BILLS: &str =
    "COPY staged_bills (id, account_id, cycle_id, kind, revision, state, total,
    run_id) FROM STDIN (FORMAT binary)";
const COPY_SEGMENTS: &str = "COPY staged_segments (bill_id, segment_no, agreement_id, service_from,
    service_until, version_id, version_hash, share_days, share_of_days, share_whole, share_unit,
    determinants, total) FROM STDIN (FORMAT binary)";
const COPY_LINES: &str = "COPY staged_lines (bill_id, segment_no, line_no, item, ledger_account,
    agency, label_zh, label_en, currency, clause, tier, quantity, quantity_unit, price, price_unit,
    proration_numerator, proration_denominator, exact, amount, service_from, service_until,
    version_from, working) FROM STDIN (FORMAT binary)";
const COPY_TIERS: &str = "COPY staged_tiers (household_id, agreement_id, item, window_from,
    window_until, quantity, unit, bill_id, segment_no, append_no) FROM STDIN (FORMAT binary)";
const COPY_READS: &str = "COPY staged_reads (bill_id, meter_id, register, measured_at, read)
    FROM STDIN (FORMAT binary)";

/// Two bills for one agreement must not cover the same day. Bills for the same account, cycle and
/// kind are left to the unique index: they are this very bill, written before.
const TAKE_OUT_DAYS_BILLED_BEFORE: &str = "WITH twice AS (
        SELECT DISTINCT ON (n.id) n.id, n.account_id, o.id AS other,
            greatest(s.service_from, t.service_from) || ' .. '
                || least(s.service_until, t.service_until) AS days
        FROM staged_segments s
        JOIN staged_bills n ON n.id = s.bill_id
        JOIN bill_segments t ON t.agreement_id = s.agreement_id
            AND t.service_from < s.service_until AND t.service_until > s.service_from
        JOIN bills o ON o.id = t.bill_id AND o.state <> 'cancelled'
            AND (o.account_id, o.cycle_id, o.kind) <> (n.account_id, n.cycle_id, n.kind)
        ORDER BY n.id, t.service_from)
    DELETE FROM staged_bills b USING twice WHERE b.id = twice.id
    RETURNING twice.account_id, twice.other, twice.days";

const INSERT_BILLS: &str = "WITH inserted AS (
        INSERT INTO bills (id, account_id, cycle_id, kind, revision, state, total, run_id)
        SELECT id, account_id, cycle_id, kind, revision, state, total, run_id
        FROM staged_bills ORDER BY account_id
        ON CONFLICT DO NOTHING RETURNING id)
    INSERT INTO new_bills SELECT id FROM inserted";
const INSERT_SEGMENTS: &str = "INSERT INTO bill_segments
    SELECT s.* FROM staged_segments s JOIN new_bills n ON n.id = s.bill_id";
const INSERT_LINES: &str = "INSERT INTO charge_lines
    SELECT l.* FROM staged_lines l JOIN new_bills n ON n.id = l.bill_id";
const INSERT_TIERS: &str = "INSERT INTO tier_ledger (household_id, agreement_id, item, window_from,
        window_until, quantity, unit, bill_id, segment_no, append_no)
    SELECT t.* FROM staged_tiers t JOIN new_bills n ON n.id = t.bill_id
    ORDER BY t.bill_id, t.segment_no, t.append_no";
const INSERT_READS: &str = "INSERT INTO billed_reads
    SELECT r.* FROM staged_reads r JOIN new_bills n ON n.id = r.bill_id";

/// Turns drafts into rows.
fn stage(guard: &RunGuard, drafts: &[Draft]) -> Result<Staged, WriteBillsError> {
    let run = guard.run();
    let mut staged = Staged {
        bills: CopyRows::default(),
        segments: CopyRows::default(),
        lines: CopyRows::default(),
        tiers: CopyRows::default(),
        reads: CopyRows::default(),
    };
    for draft in drafts {
        let contents = draft.contents();
        let key = contents.key();
        let account = key.account;
        if key.cycle != run.cycle.period {
            let want = run.cycle.period;
            return Err(WriteBillsError::OtherCycle { account, is: key.cycle, want });
        }
        let id = uuid(contents.id());
        staged
            .bills
            .row(8)
            .push(id)
            .push(i64::from(account))
            .push(i64::from(run.cycle.id))
            .push(key.kind.name())
            .push(i32::from(key.revision))
            .push("draft")
            .push(Exact(contents.total().as_decimal()))
            .push(run.id.0);
        let mut reads: BTreeMap<(i64, String, i64), EvidenceRead> = BTreeMap::new();
        let too_long = |_| WriteBillsError::TooLong { account };
        for (position, segment) in (1_usize..).zip(contents.segments()) {
            let segment_no = i16::try_from(position).map_err(too_long)?;
            stage_segment(&mut staged, id, segment_no, segment);
            for (position, line) in (1_usize..).zip(&segment.lines) {
                let line_no = i16::try_from(position).map_err(too_long)?;
                stage_line(&mut staged, (id, segment_no, line_no), line);
            }
            for (position, append) in (1_usize..).zip(&segment.tier_appends) {
                let append_no = i16::try_from(position).map_err(too_long)?;
                stage_append(&mut staged, (id, segment_no, append_no), append);
            }
            for evidence in segment.determinants.iter().flat_map(|d| &d.evidence) {
                match evidence {
                    Evidence::Reads { end, .. } => {
                        let at = end.measured_at.timestamp_micros();
                        let key = (end.meter.into(), end.register.to_string(), at);
                        reads.insert(key, *end);
                    }
                    Evidence::Registry { .. } | Evidence::Given => {}
                }
            }
        }
        for ((meter, register, _), read) in reads {
            staged
                .reads
                .row(5)
                .push(id)
                .push(meter)
                .push(register)
                .push(read.measured_at)
                .push(Jsonb(&read));
        }
    }
    Ok(staged)
}

fn stage_segment(staged: &mut Staged, bill: Uuid, segment_no: i16, segment: &billing::Segment) {
    let share = segment.share;
    staged
        .segments
        .row(13)
        .push(bill)
        .push(segment_no)
        .push(i64::from(segment.agreement))
        .push(segment.service.from())
        .push(segment.service.until())
        .push(i64::from(segment.version.version))
        .push(segment.version.hash.as_slice())
        .push(share.map(|share| i32::try_from(share.days).unwrap_or(i32::MAX)))
        .push(share.map(|share| i32::try_from(share.of_days).unwrap_or(i32::MAX)))
        .push(share.map(|share| Exact(share.whole.value)))
        .push(share.map(|share| share.whole.unit.symbol()))
        .push(Jsonb(&segment.determinants))
        .push(Exact(segment.total.as_decimal()));
}

fn stage_line(
    staged: &mut Staged,
    (bill, segment_no, line_no): (Uuid, i16, i16),
    line: &billing::BillLine,
) {
    staged
        .lines
        .row(23)
        .push(bill)
        .push(segment_no)
        .push(line_no)
        .push(&*line.item.id)
        .push(line.item.ledger_account.as_str())
        .push(line.item.agency)
        .push(line.item.label_zh.as_str())
        .push(line.item.label_en.as_str())
        .push(line.item.currency.as_str())
        .push(line.clause.as_str())
        .push(line.tier.map(i16::from))
        .push(Exact(line.quantity.value))
        .push(line.quantity.unit.symbol())
        .push(Exact(line.price.yuan))
        .push(line.price.per.symbol())
        .push(i64::from(line.proration.numerator))
        .push(i64::from(line.proration.denominator.get()))
        .push(Exact(line.exact.as_decimal()))
        .push(Exact(line.amount.as_decimal()))
        .push(line.service.from())
        .push(line.service.until())
        .push(line.version_from)
        .push(line.working.as_str());
}

fn stage_append(
    staged: &mut Staged,
    (bill, segment_no, append_no): (Uuid, i16, i16),
    append: &billing::TierAppend,
) {
    let (household, agreement) = match append.holder {
        TierHolder::Household(household) => (Some(i64::from(household)), None),
        TierHolder::Agreement(agreement) => (None, Some(i64::from(agreement))),
    };
    staged
        .tiers
        .row(10)
        .push(household)
        .push(agreement)
        .push(&*append.item)
        .push(append.window.from())
        .push(append.window.until())
        .push(Exact(append.quantity.value))
        .push(append.quantity.unit.symbol())
        .push(bill)
        .push(segment_no)
        .push(append_no);
}
