//! The run itself: books one after the other, accounts page by page.
//!
//! In: which books and cycle, settings, both stores, a clock, where to tell progress, when to
//! stop. Out: a report.
//! Never here: what a page contains (`prepare`, `rate`).
//!
//! Phases per book: claim the cycle ▸ read its rate versions ▸ pages of accounts, the next pages'
//! reads already being fetched while one is rated and written ▸ finish. Memory holds a few pages.

use crate::{
    BillrunSettings, BookBasis, RunError, RunReport,
    prepare::{CycleRules, Prepared, prepare},
    rate::{Carried, ItemKey, Outcome, add_up, rate_page, windows_of_page},
    tariffs::Tariffs,
};
use billing::Completeness;
use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use model::{Money, MoneyError, clock::Clock};
use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
};
use store_postgres::{BillChunk, Cycle, ItemSum, RunBasis, RunGuard, StartedRun};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

/// Which bills to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// Codes of the books; empty = every book that has the cycle.
    pub books: Vec<String>,
    /// Name of the cycle.
    pub cycle: String,
    /// Only reads stored up to here count; now, when not given. A resumed run keeps its own.
    pub cutoff: Option<DateTime<Utc>>,
    /// Write nothing, claim nothing: report what would be billed.
    pub dry_run: bool,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Accounts of all books of the run.
    pub accounts: u64,
    /// Accounts that are through: billed, held, excused, or billed before.
    pub done: u64,
    /// Of these, put aside.
    pub held: u64,
}

/// Tells progress; called after every page.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Both stores and the clock.
struct Stores<'a> {
    money: &'a store_postgres::Store,
    reads: &'a store_clickhouse::Store,
    clock: Clock,
}

/// A book whose cycle is ours to bill.
struct Claimed {
    cycle: Cycle,
    /// `None` in a dry run.
    guard: Option<RunGuard>,
    basis: RunBasis,
    tariffs: Arc<Tariffs>,
}

/// What a run has found so far.
#[derive(Default)]
struct Found {
    progress: Progress,
    newly_billed: u64,
    billed_before: u64,
    excused: u64,
    held_by: BTreeMap<String, u64>,
    excused_by: BTreeMap<String, u64>,
    /// Of drafts, for a dry run's report.
    items: BTreeMap<ItemKey, ItemSum>,
    sum_of_bills: Money,
    interrupted: bool,
}

/// Bills a cycle. Accounts that are billed already are passed over, so a run that was interrupted
/// anywhere is finished by starting it again.
///
/// # Errors
/// When a book or cycle is unknown or not over, somebody else is at it, or a store fails. What was
/// written until then stays written.
pub async fn run(
    request: &RunRequest,
    settings: &BillrunSettings,
    money: &store_postgres::Store,
    reads: &store_clickhouse::Store,
    clock: Clock,
    tell: Tell<'_>,
    stop: &CancellationToken,
) -> Result<RunReport, RunError> {
    let stores = Stores { money, reads, clock };
    let cutoff = request.cutoff.unwrap_or_else(|| clock.now());
    let mut claimed = Vec::new();
    for cycle in cycles(request, money).await? {
        claimed.push(claim(cycle, cutoff, request.dry_run, &stores).await?);
    }
    let mut found = Found::default();
    for book in &claimed {
        let counts =
            money.completeness(&book.cycle).await.map_err(|source| RunError::Registry {
                book: book.cycle.book_code.clone(),
                cycle: book.cycle.name.clone(),
                source: source.into(),
            })?;
        found.progress.accounts = found.progress.accounts.saturating_add(counts.active);
    }
    tell(found.progress);
    for book in &claimed {
        bill_book(book, settings, &stores, &mut found, tell, stop).await?;
        if found.interrupted {
            break;
        }
    }
    finish(request, claimed, found, &stores).await
}

async fn cycles(
    request: &RunRequest,
    money: &store_postgres::Store,
) -> Result<Vec<Cycle>, RunError> {
    let registry = |book: &str| {
        let (book, cycle) = (book.to_owned(), request.cycle.clone());
        move |source| RunError::Registry { book, cycle, source }
    };
    let unknown = |book: Option<&String>| RunError::UnknownCycle {
        book: book.cloned(),
        cycle: request.cycle.clone(),
    };
    let mut cycles: Vec<Cycle> = Vec::new();
    if request.books.is_empty() {
        let all = money.cycles().await.map_err(registry("(all)"))?;
        cycles.extend(all.into_iter().filter(|cycle| cycle.name == request.cycle));
    }
    for book in &request.books {
        let cycle = money.cycle(book, &request.cycle).await.map_err(registry(book))?;
        let cycle = cycle.ok_or_else(|| unknown(Some(book)))?;
        if cycles.iter().all(|other| other.id != cycle.id) {
            cycles.push(cycle);
        }
    }
    if cycles.is_empty() {
        return Err(unknown(None));
    }
    Ok(cycles)
}

/// Claims the cycle (a dry run claims nothing) and reads its rates.
async fn claim(
    cycle: Cycle,
    cutoff: DateTime<Utc>,
    dry_run: bool,
    stores: &Stores<'_>,
) -> Result<Claimed, RunError> {
    let name = || (cycle.book_code.clone(), cycle.name.clone());
    if let Some((_, ends_at)) = cycle.instants()
        && cutoff < ends_at
    {
        let (book, cycle) = name();
        return Err(RunError::CycleNotOver { book, cycle, ends_at, cutoff });
    }
    let versions = stores.money.rate_versions(&cycle).await.map_err(|source| {
        let (book, cycle) = name();
        RunError::Registry { book, cycle, source }
    })?;
    let basis = RunBasis { cutoff, rates_hash: store_postgres::rates_hash(&versions) };
    let tariffs = Arc::new(Tariffs::parse(&versions));
    if dry_run {
        return Ok(Claimed { cycle, guard: None, basis, tariffs });
    }
    let started =
        stores.money.start_run(&cycle, basis, stores.clock.now()).await.map_err(|source| {
            let (book, cycle) = name();
            RunError::Start { book, cycle, source }
        })?;
    let guard = match started {
        StartedRun::Started(guard) => guard,
        StartedRun::AlreadyRunning { since } => {
            let (book, cycle) = name();
            return Err(RunError::Busy { book, cycle, since });
        }
    };
    let run = guard.run();
    let basis = run.basis;
    info!(
        run = %run.id,
        book = cycle.book_code,
        cycle = cycle.name,
        cutoff = %basis.cutoff,
        resumed = run.is_resumed(),
        "bill run started"
    );
    Ok(Claimed { cycle, guard: Some(guard), basis, tariffs })
}

/// Bills one book, page by page.
async fn bill_book(
    book: &Claimed,
    settings: &BillrunSettings,
    stores: &Stores<'_>,
    found: &mut Found,
    tell: Tell<'_>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let rules = CycleRules {
        cycle: book.cycle.period,
        utc_offset_minutes: book.cycle.utc_offset_minutes,
        tolerance: TimeDelta::hours(i64::from(settings.read_tolerance_h)),
        cutoff: book.basis.cutoff,
        tariffs: Arc::clone(&book.tariffs),
    };
    let limit = settings.accounts_per_chunk.max(1);
    let ahead = usize::from(settings.chunks_ahead.max(1));
    let mut carried = Carried::default();
    let mut pages: VecDeque<AbortOnDropHandle<_>> = VecDeque::with_capacity(ahead);
    let mut after = None;
    let mut more = true;
    loop {
        while more && pages.len() < ahead {
            let accounts = stores
                .money
                .billable(&book.cycle, after, limit)
                .await
                .map_err(|source| book.registry(source))?;
            match accounts.last() {
                None => more = false,
                Some(last) => {
                    after = Some(last.account);
                    let (rules, reads) = (rules.clone(), stores.reads.clone());
                    let page = async move { prepare(accounts, &rules, &reads).await };
                    pages.push_back(AbortOnDropHandle::new(tokio::spawn(page)));
                }
            }
        }
        let Some(page) = pages.pop_front() else { return Ok(()) };
        let page = tokio::select! {
            biased;
            () = stop.cancelled() => {
                warn!(book = book.cycle.book_code, "bill run told to stop");
                found.interrupted = true;
                return Ok(());
            }
            page = page => page,
        };
        let page = page.map_err(RunError::Worker)?.map_err(|source| book.reads(source))?;
        carried = bill_page(book, page, carried, stores, found).await?;
        tell(found.progress);
    }
}

/// Rates and writes one page. Gives back what windows have used beyond the ledger.
async fn bill_page(
    book: &Claimed,
    page: Vec<Prepared>,
    carried: Carried,
    stores: &Stores<'_>,
    found: &mut Found,
) -> Result<Carried, RunError> {
    let accounts = page.len();
    let windows = windows_of_page(&page, &book.tariffs);
    let ledger = stores.money.tier_usage(&windows).await.map_err(|source| book.registry(source))?;
    let tariffs = Arc::clone(&book.tariffs);
    let (outcome, mut carried) = tokio::task::spawn_blocking(move || {
        let mut carried = carried;
        let outcome = rate_page(page, &tariffs, ledger, &mut carried);
        (outcome, carried)
    })
    .await
    .map_err(RunError::Worker)?;
    for hold in &outcome.holds {
        counter!("tidemark_billrun_held_total", "reason" => hold.reason.code.to_string())
            .increment(1);
    }
    if let Some(guard) = &book.guard {
        let chunk =
            BillChunk { drafts: &outcome.drafts, holds: &outcome.holds, excused: &outcome.excused };
        let written = stores
            .money
            .write_bills(guard, chunk, stores.clock.now())
            .await
            .map_err(|source| book.write(source))?;
        counter!("tidemark_billrun_billed_total").increment(written.written);
        found.newly_billed = found.newly_billed.saturating_add(written.written);
        let held_late = u64::try_from(written.days_billed_before.len()).unwrap_or(u64::MAX);
        found.progress.held = found.progress.held.saturating_add(held_late);
        carried.clear();
    } else {
        let drafts = u64::try_from(outcome.drafts.len()).unwrap_or(u64::MAX);
        found.newly_billed = found.newly_billed.saturating_add(drafts);
    }
    let accounts = u64::try_from(accounts).unwrap_or(u64::MAX);
    found.progress.done = found.progress.done.saturating_add(accounts);
    found.take(&outcome, book.guard.is_none())?;
    Ok(carried)
}

impl Claimed {
    fn basis(&self) -> BookBasis {
        BookBasis {
            book: self.cycle.book_code.clone(),
            cutoff: self.basis.cutoff,
            rates_hash: self.basis.rates_hash,
            resumed: self.guard.as_ref().is_some_and(|guard| guard.run().is_resumed()),
        }
    }

    fn names(&self) -> (String, String) {
        (self.cycle.book_code.clone(), self.cycle.name.clone())
    }

    fn registry(&self, source: store_postgres::CycleError) -> RunError {
        let (book, cycle) = self.names();
        RunError::Registry { book, cycle, source }
    }

    fn reads(&self, source: store_clickhouse::QueryError) -> RunError {
        let (book, cycle) = self.names();
        RunError::Reads { book, cycle, source }
    }

    fn write(&self, source: store_postgres::WriteBillsError) -> RunError {
        let (book, cycle) = self.names();
        RunError::Write { book, cycle, source }
    }
}

impl Found {
    fn take(&mut self, outcome: &Outcome, dry_run: bool) -> Result<(), MoneyError> {
        let holds = u64::try_from(outcome.holds.len()).unwrap_or(u64::MAX);
        self.progress.held = self.progress.held.saturating_add(holds);
        self.billed_before = self.billed_before.saturating_add(outcome.billed_before);
        if !dry_run {
            return Ok(());
        }
        for hold in &outcome.holds {
            let count = self.held_by.entry(hold.reason.code.to_string()).or_default();
            *count = count.saturating_add(1);
        }
        for excused in &outcome.excused {
            let count = self.excused_by.entry(excused.reason.code().to_owned()).or_default();
            *count = count.saturating_add(1);
            self.excused = self.excused.saturating_add(1);
        }
        for draft in &outcome.drafts {
            add_up(draft, &mut self.items)?;
            self.sum_of_bills = self.sum_of_bills.checked_add(draft.contents().total())?;
        }
        Ok(())
    }
}

/// Finishes every book and adds up what stands in the database, or, in a dry run, what would.
async fn finish(
    request: &RunRequest,
    claimed: Vec<Claimed>,
    found: Found,
    stores: &Stores<'_>,
) -> Result<RunReport, RunError> {
    let mut report = RunReport {
        cycle: request.cycle.clone(),
        books: claimed.iter().map(Claimed::basis).collect(),
        dry_run: request.dry_run,
        interrupted: found.interrupted,
        completeness: Completeness::default(),
        newly_billed: found.newly_billed,
        held: BTreeMap::new(),
        excused: BTreeMap::new(),
        items: Vec::new(),
        sum_of_lines: Money::ZERO,
        sum_of_bills: Money::ZERO,
    };
    if request.dry_run {
        report.completeness = Completeness {
            active: found.progress.accounts,
            billed: found.newly_billed.saturating_add(found.billed_before),
            held: found.progress.held,
            excused: found.excused,
        };
        report.held = found.held_by;
        report.excused = found.excused_by;
        report.items = found.items.into_values().collect();
        report.sum_of_lines = Money::checked_sum(report.items.iter().map(|item| item.amount))?;
        report.sum_of_bills = found.sum_of_bills;
        return Ok(report);
    }
    let mut items: BTreeMap<ItemKey, ItemSum> = BTreeMap::new();
    for book in claimed {
        let totals =
            stores.money.cycle_totals(&book.cycle).await.map_err(|source| book.registry(source))?;
        report.sum_of_lines = report.sum_of_lines.checked_add(totals.sum_of_lines)?;
        report.sum_of_bills = report.sum_of_bills.checked_add(totals.sum_of_bills)?;
        for (into, from) in [(&mut report.held, totals.held), (&mut report.excused, totals.excused)]
        {
            for (reason, count) in from {
                let sum = into.entry(reason).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        for item in totals.items {
            let key = (item.item.clone(), item.tier, item.quantity.unit.symbol());
            match items.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(item);
                }
                Entry::Occupied(mut sum) => add_item(sum.get_mut(), &item)?,
            }
        }
        let (name, cycle) = book.names();
        let counts = match book.guard {
            Some(guard) if !found.interrupted => stores
                .money
                .finish_run(guard, stores.clock.now())
                .await
                .map_err(|source| RunError::Finish { book: name, cycle, source })?,
            Some(_) | None => stores.money.completeness(&book.cycle).await.map_err(|source| {
                RunError::Registry { book: name, cycle, source: source.into() }
            })?,
        };
        let all = &mut report.completeness;
        all.active = all.active.saturating_add(counts.active);
        all.billed = all.billed.saturating_add(counts.billed);
        all.held = all.held.saturating_add(counts.held);
        all.excused = all.excused.saturating_add(counts.excused);
    }
    report.items = items.into_values().collect();
    let Completeness { active, billed, held, excused } = report.completeness;
    info!(
        cycle = report.cycle,
        active,
        billed,
        held,
        excused,
        total = %report.sum_of_bills,
        balances = report.balances(),
        "bill run ended"
    );
    Ok(report)
}

fn add_item(sum: &mut ItemSum, more: &ItemSum) -> Result<(), MoneyError> {
    sum.lines = sum.lines.saturating_add(more.lines);
    sum.quantity = sum.quantity.checked_add(more.quantity).map_err(|_| MoneyError::Overflow)?;
    sum.amount = sum.amount.checked_add(more.amount)?;
    Ok(())
}
