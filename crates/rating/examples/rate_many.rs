//! Rates many bills with a shipped schedule, to be timed from outside:
//! `time cargo run --release -p rating --example rate_many -- FILE BILLS`.
//!
//! In: a schedule file, how many bills. Out: their sum on standard output.
//! Never here: clocks; whoever runs it holds the watch.

use model::{DeterminantKind, Money, Period, Quantity};
use rating::{Determinants, RatingInput, Schedule};
use rust_decimal::Decimal;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which schedule file?")?;
    let bills: u32 = arguments.next().ok_or("how many bills?")?.parse()?;
    let schedule = Schedule::parse(&std::fs::read_to_string(file)?)?;
    let service = Period::new("2026-03-01".parse()?, "2026-04-01".parse()?)?;
    let version = schedule.version_on(service.from())?;
    let quantity = |kind, value| Quantity::new(value, version.unit_of(kind));
    let fixed = Determinants::new()
        .with(
            DeterminantKind::MeterCalibre,
            quantity(DeterminantKind::MeterCalibre, Decimal::from(20)),
        )
        .with(DeterminantKind::Persons, quantity(DeterminantKind::Persons, Decimal::from(3)));
    let mut input = RatingInput::new(service, fixed);
    input.window_used = version.windows(service, None)?;
    let (mut total, mut lines) = (Money::ZERO, 0);
    for bill in 0..bills {
        let usage = Decimal::new(i64::from(bill % 40_000), 3);
        input.determinants.set(DeterminantKind::Usage, quantity(DeterminantKind::Usage, usage));
        let used = Decimal::new(i64::from(bill % 250_000), 3);
        for window in &mut input.window_used {
            window.quantity.value = used;
        }
        let rated = rating::rate(version, &input)?;
        lines += rated.lines.len();
        total = total.checked_add(rated.total)?;
    }
    let summary = format!("{bills} bills, {lines} lines, {total} yuan\n");
    std::io::Write::write_all(&mut std::io::stdout(), summary.as_bytes())?;
    Ok(())
}
