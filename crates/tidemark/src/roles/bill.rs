//! `tidemark bill`: run a cycle, show its bills, explain one.
//!
//! In: settings, a cycle. Out: bills in Postgres, a report, a working in words, an exit code.
//! Never here: how a bill comes about (see `billrun`, `billing`).

use crate::{
    cli::{BillRef, BillRunArgs, BillShowArgs},
    settings::Settings,
};
use anyhow::{Context, Result, bail};
use billrun::{RunReport, RunRequest};
use model::{Evidence, clock::Clock};
use serde_json::{Value, json};
use std::process::ExitCode;
use store_postgres::{Cycle, Store};
use tokio_util::sync::CancellationToken;

const PAGE: u32 = 1_000;

/// Bills a cycle; the exit code says whether everybody was billed.
pub(crate) async fn run(
    settings: &Settings,
    args: BillRunArgs,
    shutdown: CancellationToken,
) -> Result<ExitCode> {
    let money = super::postgres(settings).await?;
    let reads = super::clickhouse(settings)?;
    let request = RunRequest {
        books: args.books,
        cycle: args.cycle,
        cutoff: args.cutoff,
        dry_run: args.dry_run,
    };
    let bar = super::bar(0, "accounts");
    let tell = |progress: billrun::Progress| {
        bar.set_length(progress.accounts);
        bar.set_position(progress.done);
    };
    let report =
        billrun::run(&request, &settings.billrun, &money, &reads, Clock::Wall, &tell, &shutdown)
            .await;
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        println!("{}", report_json(&report));
    } else {
        print!("{report}");
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Lists the bills of a cycle.
pub(crate) async fn show(settings: &Settings, args: &BillShowArgs) -> Result<()> {
    let store = super::postgres(settings).await?;
    let cycles: Vec<Cycle> = store
        .cycles()
        .await?
        .into_iter()
        .filter(|cycle| cycle.name == args.cycle)
        .filter(|cycle| args.books.is_empty() || args.books.contains(&cycle.book_code))
        .collect();
    if cycles.is_empty() {
        bail!("no book has a cycle {:?}", args.cycle);
    }
    for cycle in cycles {
        show_cycle(&store, &cycle, args.json).await?;
    }
    Ok(())
}

async fn show_cycle(store: &Store, cycle: &Cycle, as_json: bool) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = store.bills(cycle, after.as_deref(), PAGE).await?;
        for summary in &page {
            if as_json {
                let stored =
                    store.bill(summary.id).await?.context("a bill that was just listed")?;
                println!("{}", bill_json(&stored));
            } else {
                println!(
                    "{}  {}  {:<12} {:>12}  {:<10} {}",
                    cycle.book_code,
                    cycle.name,
                    summary.account_number,
                    summary.total.to_string(),
                    summary.state,
                    summary.number.as_deref().unwrap_or("")
                );
            }
        }
        match page.last() {
            // A page may end inside an account's revisions only when one account fills it.
            Some(last) if page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX) => {
                after = Some(last.account_number.clone());
            }
            Some(_) | None => return Ok(()),
        }
    }
}

/// Explains the live bill of an account in a cycle.
pub(crate) async fn explain(settings: &Settings, which: &BillRef) -> Result<()> {
    let store = super::postgres(settings).await?;
    print!("{}", billrun::explain_account(&store, &which.account, &which.cycle).await?);
    Ok(())
}

fn report_json(report: &RunReport) -> Value {
    json!({
        "cycle": report.cycle,
        "dry_run": report.dry_run,
        "interrupted": report.interrupted,
        "active": report.completeness.active,
        "billed": report.completeness.billed,
        "newly_billed": report.newly_billed,
        "held": report.completeness.held,
        "held_by_reason": report.held,
        "excused": report.completeness.excused,
        "excused_by_reason": report.excused,
        "sum_of_lines": report.sum_of_lines.to_string(),
        "sum_of_bills": report.sum_of_bills.to_string(),
        "balances": report.balances(),
    })
}

fn bill_json(stored: &store_postgres::StoredBill) -> Value {
    let contents = stored.bill.contents();
    let segments: Vec<Value> = contents
        .segments()
        .iter()
        .map(|segment| {
            let reads: Vec<Value> = segment
                .determinants
                .iter()
                .flat_map(|determinant| &determinant.evidence)
                .filter_map(|evidence| match evidence {
                    Evidence::Reads { start, end, rolled_over, multiplier, .. } => Some(json!({
                        "meter": stored.labels.meters.get(&start.meter),
                        "start": {"count": start.count, "measured_at": start.measured_at},
                        "end": {"count": end.count, "measured_at": end.measured_at},
                        "rolled_over": rolled_over,
                        "multiplier": multiplier.to_string(),
                    })),
                    Evidence::Registry { .. } | Evidence::Given => None,
                })
                .collect();
            let lines: Vec<Value> = segment
                .lines
                .iter()
                .map(|line| {
                    json!({
                        "item": &*line.item.id,
                        "tier": line.tier,
                        "quantity": line.quantity,
                        "price": line.price.yuan.to_string(),
                        "exact": line.exact.to_string(),
                        "amount": line.amount.to_string(),
                    })
                })
                .collect();
            json!({"reads": reads, "lines": lines})
        })
        .collect();
    json!({
        "account": stored.labels.account,
        "book": stored.cycle.book_code,
        "cycle": stored.cycle.name,
        "total": contents.total().to_string(),
        "segments": segments,
    })
}
