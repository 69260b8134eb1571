//! `tidemark books`: what came in and how it ended, what was billed and what was not.
//!
//! In: both stores. Out: numbers that must balance, and exit code 1 when they do not.
//! Never here: counting; the stores hold the counts.

use crate::{cli::BooksArgs, settings::Settings};
use anyhow::Result;
use model::Money;
use serde::Serialize;
use std::{collections::BTreeMap, process::ExitCode};

#[derive(Debug, Serialize)]
struct Books {
    received: u64,
    stored: u64,
    duplicate: u64,
    rejected: u64,
    residue: i128,
    reads: u64,
    reads_accepted: u64,
    reads_held: u64,
    refused: BTreeMap<String, u64>,
    cycles: Vec<CycleBooks>,
}

#[derive(Debug, Serialize)]
struct CycleBooks {
    book: String,
    cycle: String,
    active: u64,
    billed: u64,
    held: u64,
    excused: u64,
    sum_of_lines: Money,
    sum_of_bills: Money,
}

impl CycleBooks {
    /// Whether nobody is forgotten. A cycle nobody has run yet is not out of balance.
    fn balances(&self) -> bool {
        let accounted = u128::from(self.billed) + u128::from(self.held) + u128::from(self.excused);
        (accounted == 0 || accounted == u128::from(self.active))
            && self.sum_of_lines == self.sum_of_bills
    }
}

/// Prints the books; exit code 1 when they do not balance.
pub(crate) async fn run(settings: &Settings, args: &BooksArgs) -> Result<ExitCode> {
    let books = read(settings).await?;
    let balances = books.residue == 0 && books.cycles.iter().all(CycleBooks::balances);
    if args.json {
        println!("{}", serde_json::to_string(&books)?);
    } else {
        print(&books);
    }
    if !balances {
        eprintln!("tidemark: the books do not balance");
    }
    Ok(if balances { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn read(settings: &Settings) -> Result<Books> {
    let readings = super::clickhouse(settings)?;
    let counts = readings.totals().await?.counts;
    let rows = readings.row_totals().await?;
    let postgres = super::postgres(settings).await?;
    let mut cycles = Vec::new();
    for cycle in postgres.cycles().await? {
        let completeness = postgres.completeness(&cycle).await?;
        let totals = postgres.cycle_totals(&cycle).await?;
        cycles.push(CycleBooks {
            book: cycle.book_code,
            cycle: cycle.name,
            active: completeness.active,
            billed: completeness.billed,
            held: completeness.held,
            excused: completeness.excused,
            sum_of_lines: totals.sum_of_lines,
            sum_of_bills: totals.sum_of_bills,
        });
    }
    Ok(Books {
        received: counts.received,
        stored: counts.stored,
        duplicate: counts.duplicate,
        rejected: counts.rejected,
        residue: counts.residue(),
        reads: rows.reads,
        reads_accepted: rows.accepted,
        reads_held: rows.held,
        refused: readings.refusals().await?.into_iter().collect(),
        cycles,
    })
}

fn print(books: &Books) {
    println!(
        "uplinks   received {} = stored {} + duplicate {} + rejected {}   residue {}",
        books.received, books.stored, books.duplicate, books.rejected, books.residue
    );
    println!(
        "reads     {} stored: {} accepted, {} held",
        books.reads, books.reads_accepted, books.reads_held
    );
    for (reason, uplinks) in &books.refused {
        println!("refused   {uplinks:>8}  {reason}");
    }
    for cycle in &books.cycles {
        println!(
            "cycle     {} {}: active {} = billed {} + held {} + excused {}; lines {} = bills {}",
            cycle.book,
            cycle.cycle,
            cycle.active,
            cycle.billed,
            cycle.held,
            cycle.excused,
            cycle.sum_of_lines,
            cycle.sum_of_bills
        );
    }
}
