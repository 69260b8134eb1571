//! Bills per second and core through the rating engine alone:
//! `cargo run --release -p benches --bin rate`.
//!
//! In: the schedules in `deploy/schedules`. Out: one line of figures per schedule.
//! Never here: databases.

use benches::measure;
use model::{DeterminantKind, Period, Quantity, Unit};
use rating::{Determinants, RatingInput, Schedule};
use rust_decimal::Decimal;

const TIMES: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = Period::new("2026-03-01".parse()?, "2026-04-01".parse()?)?;
    for (name, text) in [
        (
            "Jingmen household, blocks by the month",
            include_str!("../../../deploy/schedules/jingmen-household-2011.toml"),
        ),
        (
            "Beijing household, 3 items, blocks by the year",
            include_str!("../../../deploy/schedules/beijing-household-2014.toml"),
        ),
        (
            "two-part by calibre, 3 items",
            include_str!("../../../deploy/schedules/two-part-calibre-demo.toml"),
        ),
    ] {
        let schedule = Schedule::parse(text)?;
        let inputs: Vec<RatingInput> = (0..1000_i64)
            .map(|litres| {
                let usage = Quantity::new(Decimal::new(litres * 47, 3), Unit::CubicMetre);
                let determinants = Determinants::new()
                    .with(DeterminantKind::Usage, usage)
                    .with(DeterminantKind::Persons, Quantity::new(3.into(), Unit::Person))
                    .with(
                        DeterminantKind::MeterCalibre,
                        Quantity::new(40.into(), Unit::Millimetre),
                    );
                RatingInput::new(service, determinants)
            })
            .collect();
        let mut turn = inputs.iter().cycle();
        measure(name, TIMES, |_| {
            turn.next().and_then(|input| schedule.rate(input).ok()).map_or(0, |r| r.lines.len())
        });
    }
    Ok(())
}
