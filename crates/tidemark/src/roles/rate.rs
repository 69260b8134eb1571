//! `tidemark rate`: the rating engine without a database.
//!
//! In: a schedule file, billing determinants per line. Out: charge lines per line.
//! Never here: a tariff rule (see `rating`).

use crate::cli::RateArgs;
use anyhow::{Context, Result, bail};
use rating::{Schedule, ndjson::Session};
use std::{fs, process::ExitCode};

/// Rates every line of standard input; without `--ndjson` only checks the schedule.
pub(crate) fn run(args: &RateArgs) -> Result<ExitCode> {
    let path = args.schedule.display();
    let text =
        fs::read_to_string(&args.schedule).with_context(|| format!("read the schedule {path}"))?;
    let schedule = match Schedule::parse(&text) {
        Ok(schedule) => schedule,
        Err(error) => bail!("schedule {path}: {error}"),
    };
    if !args.ndjson {
        println!("{}: {} version(s), nothing wrong", schedule.name(), schedule.versions().len());
        return Ok(ExitCode::SUCCESS);
    }
    // Lines that name an account carry its tier windows on to the next.
    let mut session = Session::new(&schedule);
    super::decode::each_line(|line| session.rate_line(line))?;
    Ok(ExitCode::SUCCESS)
}
