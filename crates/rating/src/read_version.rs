//! The words of a version that its items fall back to: units, assumptions, rounding, windows.
//!
//! In: the table of a version (or of an item that says it otherwise). Out: units per determinant,
//! rounding and window rules.
//! Never here: charge items (see `read_items`), TOML syntax (see `file`).

use crate::{
    Determinants, ScheduleError,
    file::{Node, Table},
    window::{Across, WindowStart},
};
use model::{DeterminantKind, Quantity, Rounding, RoundingMode, Unit};

type Fallible<T> = Result<T, ScheduleError>;

/// The unit of each kind of determinant.
pub(crate) type Units = [Unit; DeterminantKind::ALL.len()];

/// What items fall back to.
pub(crate) struct VersionDefaults {
    pub(crate) units: Units,
    pub(crate) rounding: RoundingRule,
    pub(crate) window: Option<WindowWords>,
    pub(crate) across: Option<Across>,
    pub(crate) currency: String,
}

/// A rounding rule and the place it is used at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundingRule {
    pub(crate) rounding: Rounding,
    pub(crate) at: RoundedAt,
}

/// What is rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoundedAt {
    Line,
    Item,
    Total,
}

impl RoundingRule {
    /// The rule of the total, when the total is what is rounded.
    pub(crate) fn of_total(self) -> Option<Rounding> {
        (self.at == RoundedAt::Total).then_some(self.rounding)
    }
}

/// A window without its rule for periods that reach over several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WindowWords {
    Bill { bounds_for_days: Option<u32> },
    Months { months: u32, start: WindowStart },
}

/// The determinants a rule may name.
pub(crate) const KINDS: &[(&str, DeterminantKind)] = &[
    ("usage", DeterminantKind::Usage),
    ("usage_sharp", DeterminantKind::UsageSharp),
    ("usage_peak", DeterminantKind::UsagePeak),
    ("usage_flat", DeterminantKind::UsageFlat),
    ("usage_valley", DeterminantKind::UsageValley),
    ("usage_deep_valley", DeterminantKind::UsageDeepValley),
    ("reactive_usage", DeterminantKind::ReactiveUsage),
    ("reactive_reverse", DeterminantKind::ReactiveReverse),
    ("maximum_demand", DeterminantKind::MaximumDemand),
    ("contracted_capacity", DeterminantKind::ContractedCapacity),
    ("meter_calibre", DeterminantKind::MeterCalibre),
    ("persons", DeterminantKind::Persons),
    ("planned_per_person", DeterminantKind::PlannedPerPerson),
    ("previous_average", DeterminantKind::PreviousAverage),
    ("quota", DeterminantKind::Quota),
    ("dwellings", DeterminantKind::Dwellings),
    ("meters", DeterminantKind::Meters),
];

/// The unit of `kind`.
pub(crate) fn unit_in(units: &Units, kind: DeterminantKind) -> Unit {
    units.get(kind as usize).copied().unwrap_or(Unit::One)
}

fn unit(node: &Node<'_>) -> Fallible<Unit> {
    node.text()?.parse().map_err(|_| {
        node.out_of_range(
            "is not a unit; those in use: m3, kWh, kvarh, kW, kVA, mm, person, GJ, kg",
        )
    })
}

/// `usage_unit` and the exceptions in `units`.
pub(crate) fn units(table: &mut Table<'_>) -> Fallible<Units> {
    let usage = unit(&table.require("usage_unit")?)?;
    let mut exceptions = match table.take("units") {
        Some(node) => Some(node.table()?),
        None => None,
    };
    let mut units = [usage; DeterminantKind::ALL.len()];
    for (kind, place) in DeterminantKind::ALL.iter().zip(&mut units) {
        *place = match kind {
            DeterminantKind::Usage
            | DeterminantKind::UsageSharp
            | DeterminantKind::UsagePeak
            | DeterminantKind::UsageFlat
            | DeterminantKind::UsageValley
            | DeterminantKind::UsageDeepValley
            | DeterminantKind::PlannedPerPerson
            | DeterminantKind::PreviousAverage
            | DeterminantKind::Quota
            | DeterminantKind::UsageOutsideTiers => usage,
            DeterminantKind::ReactiveUsage | DeterminantKind::ReactiveReverse => Unit::KilovarHour,
            DeterminantKind::MaximumDemand => Unit::Kilowatt,
            DeterminantKind::ContractedCapacity => Unit::KilovoltAmpere,
            DeterminantKind::MeterCalibre => Unit::Millimetre,
            DeterminantKind::Persons => Unit::Person,
            DeterminantKind::Dwellings => Unit::Household,
            DeterminantKind::Meters => Unit::Meter,
        };
    }
    if let Some(exceptions) = &mut exceptions {
        for (name, kind) in [
            ("contracted_capacity", DeterminantKind::ContractedCapacity),
            ("maximum_demand", DeterminantKind::MaximumDemand),
            ("previous_average", DeterminantKind::PreviousAverage),
        ] {
            if let Some(node) = exceptions.take(name)
                && let Some(place) = units.get_mut(kind as usize)
            {
                *place = unit(&node)?;
            }
        }
    }
    exceptions.map_or(Ok(()), Table::finish)?;
    Ok(units)
}

/// Determinants taken for given when they are not.
pub(crate) fn assume(table: &mut Table<'_>, units: &Units) -> Fallible<Determinants> {
    let mut assumed = Determinants::new();
    let Some(node) = table.take("assume") else { return Ok(assumed) };
    let mut table = node.table()?;
    for (name, kind) in KINDS {
        if let Some(node) = table.take(name) {
            assumed.set(*kind, Quantity::new(node.not_negative()?, unit_in(units, *kind)));
        }
    }
    table.finish()?;
    Ok(assumed)
}

/// The version's `rounding`; to the fen, half up, per line, when it says nothing.
pub(crate) fn version_rounding(table: &mut Table<'_>) -> Fallible<RoundingRule> {
    let fallback = RoundingRule { rounding: Rounding::FEN_HALF_UP, at: RoundedAt::Line };
    match table.take("rounding") {
        Some(node) => rounding(
            &node,
            fallback,
            &[("line", RoundedAt::Line), ("item", RoundedAt::Item), ("total", RoundedAt::Total)],
        ),
        None => Ok(fallback),
    }
}

/// A rounding table; what it leaves out is taken from `fallback`.
pub(crate) fn rounding(
    node: &Node<'_>,
    fallback: RoundingRule,
    places_at: &[(&str, RoundedAt)],
) -> Fallible<RoundingRule> {
    let mut table = node.table()?;
    let places = match table.take("places") {
        Some(node) => node.whole(0, 9)?,
        None => fallback.rounding.places,
    };
    let mode = match table.take("mode") {
        Some(node) => node.one_of(&[
            ("half_up", RoundingMode::HalfUp),
            ("half_even", RoundingMode::HalfEven),
            ("down", RoundingMode::Down),
            ("up", RoundingMode::Up),
        ])?,
        None => fallback.rounding.mode,
    };
    let at = match table.take("at") {
        Some(node) => node.one_of(places_at)?,
        None => fallback.at,
    };
    table.finish()?;
    Ok(RoundingRule { rounding: Rounding { places, mode }, at })
}

/// `window`, as a word or a table.
pub(crate) fn window(table: &mut Table<'_>) -> Fallible<Option<WindowWords>> {
    let Some(node) = table.take("window") else { return Ok(None) };
    let calendar = |months| WindowWords::Months { months, start: WindowStart::Calendar };
    if !node.is_table() {
        return Ok(Some(node.one_of(&[
            ("month", calendar(1)),
            ("year", calendar(12)),
            ("bill", WindowWords::Bill { bounds_for_days: None }),
        ])?));
    }
    let mut table = node.table()?;
    let words = if let Some(days) = table.take("bounds_for_days") {
        WindowWords::Bill { bounds_for_days: Some(days.whole(1, 3660)?) }
    } else {
        let months = table.require("months")?.whole(1, 120)?;
        let from = table.require("from")?;
        let start = match from
            .one_of(&[("calendar", WindowStart::Calendar), ("account", WindowStart::Account)])
        {
            Ok(start) => start,
            Err(refused) => WindowStart::Day(from.day().map_err(|_| refused)?),
        };
        if start == WindowStart::Calendar && 12 % months != 0 {
            return Err(from.out_of_range(
                "\"calendar\" needs months that divide the year: 1, 2, 3, 4, 6 or 12; otherwise \
                 say \"account\" or a day",
            ));
        }
        WindowWords::Months { months, start }
    };
    table.finish()?;
    Ok(Some(words))
}

/// `across_windows`, as a word or a table.
pub(crate) fn across(table: &mut Table<'_>) -> Fallible<Option<Across>> {
    let Some(node) = table.take("across_windows") else { return Ok(None) };
    if !node.is_table() {
        return Ok(Some(node.one_of(&[
            ("refuse", Across::Refuse),
            ("by_days", Across::ByDays),
            ("starts_in", Across::StartsIn),
            ("ends_in", Across::EndsIn),
            ("stretch", Across::Stretch),
        ])?));
    }
    let mut table = node.table()?;
    let across = if let Some(months) = table.take("months_to_old") {
        Across::MonthsToOld(months.whole(0, 120)?)
    } else {
        let boundary_month_to_old =
            table.require("boundary_month")?.one_of(&[("old", true), ("new", false)])?;
        Across::ByMonths { boundary_month_to_old }
    };
    table.finish()?;
    Ok(Some(across))
}
