//! The words of the file, turned into rules (`docs/rate-schedules.md` is their description).
//!
//! In: tables of the schedule file. Out: compiled rules with every number exact, every reference
//! resolved and every contradiction refused.
//! Never here: arithmetic on bills, TOML syntax (see `file`).

use crate::{
    Determinants, Problem, ScheduleError,
    file::{Node, Table},
    line::ItemFacts,
    power_factor,
    rules::{
        Block, Bound, Item, MixedPart, MixedUseRule, PartPeriod, Per, PowerFactorRule, Rule, Scale,
        StandingPrice, StandingRule, Term, TimeOfUseRule, UsageCase, UsageRule, When,
    },
    window::{Across, Window, WindowStart},
};
use model::{DeterminantKind, Quantity, Rounding, RoundingMode, Unit};
use rust_decimal::Decimal;
use std::{num::NonZeroU32, sync::Arc};

type Fallible<T> = Result<T, ScheduleError>;
type Units = [Unit; DeterminantKind::ALL.len()];

const MOST_ITEMS: usize = 64;
const MOST_CASES: usize = 64;
const MOST_BLOCKS: usize = 64;
const MOST_ROWS: usize = 101;

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
    rounding: Rounding,
    at: RoundedAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoundedAt {
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

const KINDS: &[(&str, DeterminantKind)] = &[
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

const TIMES_OF_USE: &[(&str, DeterminantKind)] = &[
    ("sharp", DeterminantKind::UsageSharp),
    ("peak", DeterminantKind::UsagePeak),
    ("flat", DeterminantKind::UsageFlat),
    ("valley", DeterminantKind::UsageValley),
    ("deep_valley", DeterminantKind::UsageDeepValley),
];

fn unit_in(units: &Units, kind: DeterminantKind) -> Unit {
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

fn rounding(
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

/// All items, in order; later ones may refer to earlier ones.
pub(crate) fn items(table: &mut Table<'_>, defaults: &VersionDefaults) -> Fallible<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    for node in table.require("item")?.list(MOST_ITEMS)? {
        let item = item(&node, defaults, &items)?;
        if items.iter().any(|earlier| earlier.facts.id == item.facts.id) {
            let text = format!("there is an item {:?} already", item.facts.id);
            return Err(node.problem(Problem::Duplicate(text)));
        }
        items.push(item);
    }
    Ok(items)
}

fn item(node: &Node<'_>, defaults: &VersionDefaults, earlier: &[Item]) -> Fallible<Item> {
    let mut table = node.table()?;
    let id = table.require("id")?.name()?;
    let ledger_account = table.require("ledger_account")?.name()?.to_owned();
    let agency = table.take("agency").map_or(Ok(false), |node| node.yes())?;
    let mut label = |key| table.take(key).map(|node| node.text().map(str::to_owned)).transpose();
    let (zh, en) = (label("label_zh")?, label("label_en")?);
    let label_en = en.or_else(|| zh.clone()).unwrap_or_else(|| id.to_owned());
    let label_zh = zh.unwrap_or_else(|| label_en.clone());
    let rule = match table.take("rounding") {
        Some(node) if defaults.rounding.at == RoundedAt::Total => {
            return Err(node.problem(Problem::Contradiction(
                "the version rounds its total: an item cannot be rounded by itself".to_owned(),
            )));
        }
        Some(node) => {
            let places = [("line", RoundedAt::Line), ("item", RoundedAt::Item)];
            rounding(&node, defaults.rounding, &places)?
        }
        None => defaults.rounding,
    };
    let when = when(&mut table)?.unwrap_or_default();
    let read: fn(&mut Table<'_>, &VersionDefaults, &[Item]) -> Fallible<Rule> =
        table.require("rule")?.one_of(&[
            ("usage", usage as fn(&mut Table<'_>, &VersionDefaults, &[Item]) -> Fallible<Rule>),
            ("time_of_use", time_of_use),
            ("standing", standing),
            ("mixed_use", mixed_use),
            ("percentage", percentage),
            ("power_factor", power_factor_rule),
            ("minimum", minimum),
        ])?;
    let kind = read(&mut table, defaults, earlier)?;
    table.finish()?;
    let facts = Arc::new(ItemFacts {
        id: id.into(),
        ledger_account,
        agency,
        label_zh,
        label_en,
        currency: defaults.currency.clone(),
    });
    let rounded_once = rule.at == RoundedAt::Item;
    Ok(Item { facts, when, rounding: rule.rounding, rounded_once, rule: kind })
}

fn when(table: &mut Table<'_>) -> Fallible<Option<When>> {
    let Some(node) = table.take("when") else { return Ok(None) };
    let mut table = node.table()?;
    let mut persons = |key| table.take(key).map(|node| node.not_negative()).transpose();
    let (persons_from, persons_until) = (persons("persons_from")?, persons("persons_until")?);
    if let (Some(from), Some(until)) = (persons_from, persons_until)
        && until <= from
    {
        return Err(table.contradiction("persons_until is outside and must be above persons_from"));
    }
    let mut classes = |key| -> Fallible<Vec<String>> {
        let Some(node) = table.take(key) else { return Ok(Vec::new()) };
        let nodes = if node.is_list() { node.list(16)? } else { vec![node] };
        nodes.iter().map(|node| node.name().map(str::to_owned)).collect()
    };
    let (class, unless_class) = (classes("class")?, classes("unless_class")?);
    let months = match table.take("months") {
        Some(node) => {
            node.list(12)?.iter().map(|node| node.whole(1, 12)).collect::<Fallible<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let when = When { persons_from, persons_until, class, unless_class, months };
    if when.is_always() && !table.has_any() {
        return Err(table.contradiction("an empty \"when\" says nothing: leave it out"));
    }
    table.finish()?;
    Ok(Some(when))
}

fn kind(table: &mut Table<'_>) -> Fallible<DeterminantKind> {
    table.take("of").map_or(Ok(DeterminantKind::Usage), |node| node.one_of(KINDS))
}

/// Exactly one of several keys; their names are for the message.
fn only(table: &Table<'_>, keys: &[&'static str]) -> Fallible<()> {
    if keys.iter().filter(|key| table.has(key)).count() == 1 {
        return Ok(());
    }
    Err(table.contradiction(format!("needs exactly one of {}", keys.join(", "))))
}

fn usage(table: &mut Table<'_>, defaults: &VersionDefaults, _: &[Item]) -> Fallible<Rule> {
    let of = kind(table)?;
    let share = match table.take("share") {
        Some(node) => Some(node.not_negative()?),
        None => None,
    };
    let at_most = match table.take("at_most") {
        Some(node) => Some(node.not_negative()?),
        None => None,
    };
    only(table, &["price", "block", "case"])?;
    let cases = match table.take("case") {
        Some(list) => {
            let mut cases = Vec::new();
            for node in list.list(MOST_CASES)? {
                let mut table = node.table()?;
                let when = when(&mut table)?.unwrap_or_default();
                let last_open = cases.last().is_some_and(|case: &UsageCase| case.when.is_always());
                if last_open {
                    return Err(table.contradiction(
                        "can never be reached: the case before has no \"when\" and fits everybody",
                    ));
                }
                only(&table, &["price", "block"])?;
                let scale = scale(&mut table, &defaults.units)?;
                table.finish()?;
                cases.push(UsageCase { when, scale });
            }
            cases
        }
        None => {
            vec![UsageCase { when: When::default(), scale: scale(table, &defaults.units)? }]
        }
    };
    let own_window = window(table)?;
    let own_across = across(table)?;
    let tiered =
        cases.iter().any(|case| matches!(&case.scale, Scale::Blocks(blocks) if blocks.len() > 1));
    if !tiered && (own_window.is_some() || own_across.is_some()) {
        return Err(table.contradiction(
            "a window means nothing to an item without blocks: leave window and across_windows out",
        ));
    }
    let window = if tiered {
        let words = own_window.or(defaults.window).ok_or_else(|| {
            table.contradiction(
                "its blocks need a window: say window = \"month\", \"year\", \"bill\" or { months \
                 = 12, from = \"account\" }, here or in the version",
            )
        })?;
        let across = own_across.or(defaults.across);
        Some(match words {
            WindowWords::Bill { .. } if own_across.is_some() => {
                return Err(table.contradiction("a bill never reaches over its own window"));
            }
            WindowWords::Bill { bounds_for_days } => Window::Bill { bounds_for_days },
            WindowWords::Months { months, start } => {
                Window::Months { months, start, across: across.unwrap_or(Across::Refuse) }
            }
        })
    } else {
        None
    };
    let unit = unit_in(&defaults.units, of);
    Ok(Rule::Usage(UsageRule { of, unit, share, at_most, window, cases }))
}

fn scale(table: &mut Table<'_>, units: &Units) -> Fallible<Scale> {
    if let Some(price) = table.take("price") {
        return Ok(Scale::Flat(price.not_negative()?));
    }
    let list = table.require("block")?.list(MOST_BLOCKS)?;
    let many = list.len();
    let mut blocks: Vec<Block> = Vec::with_capacity(many);
    for (place, node) in list.into_iter().enumerate() {
        let mut table = node.table()?;
        let begins = blocks.last().and_then(|block| block.until.clone());
        if let Some(from) = table.take("from") {
            let found = bound(&from, units)?;
            let expected = begins.clone().unwrap_or(Bound { fixed: Decimal::ZERO, terms: vec![] });
            if found != expected {
                let expected = if expected.terms.is_empty() {
                    expected.fixed.to_string()
                } else {
                    "the same as the until before".to_owned()
                };
                return Err(from.problem(Problem::Contradiction(format!(
                    "must be {expected}, where the block before ends: blocks have no gap and no \
                     overlap (from is inside, until is outside)"
                ))));
            }
        }
        let price = table.require("price")?.not_negative()?;
        let until = match table.take("until") {
            Some(node) if place + 1 == many => {
                return Err(node.problem(Problem::Contradiction(
                    "the last block has no until: usage above it would have no price".to_owned(),
                )));
            }
            Some(node) => {
                let until = bound(&node, units)?;
                let fixed_before = begins.as_ref().map_or(Some(Decimal::ZERO), |bound| {
                    bound.terms.is_empty().then_some(bound.fixed)
                });
                if let Some(before) = fixed_before
                    && until.terms.is_empty()
                    && until.fixed <= before
                {
                    return Err(node.out_of_range(format!(
                        "{} must be above {before}, where the block begins",
                        until.fixed
                    )));
                }
                Some(until)
            }
            None if place + 1 == many => None,
            None => {
                return Err(table.problem(Problem::Missing { key: "until" }));
            }
        };
        table.finish()?;
        blocks.push(Block { until, price });
    }
    Ok(Scale::Blocks(blocks))
}

/// A bound: a number, or a sum that depends on the household.
fn bound(node: &Node<'_>, units: &Units) -> Fallible<Bound> {
    if !node.is_table() {
        return Ok(Bound { fixed: node.not_negative()?, terms: Vec::new() });
    }
    let mut table = node.table()?;
    let mut number = |key| table.take(key).map(|node| node.not_negative()).transpose();
    let fixed = number("fixed")?.unwrap_or(Decimal::ZERO);
    let over = number("persons_over")?;
    let mut terms = Vec::new();
    for (key, kind) in [
        ("per_person", DeterminantKind::Persons),
        ("per_dwelling", DeterminantKind::Dwellings),
        ("times_quota", DeterminantKind::Quota),
        ("times_previous_average", DeterminantKind::PreviousAverage),
    ] {
        if let Some(factor) = number(key)? {
            let over = over.filter(|_| kind == DeterminantKind::Persons).unwrap_or_default();
            terms.push(Term { kind, unit: unit_in(units, kind), over, factor });
        }
    }
    if over.is_some() && !terms.iter().any(|term| term.kind == DeterminantKind::Persons) {
        return Err(table.contradiction("persons_over means nothing without per_person"));
    }
    if terms.is_empty() {
        return Err(table.contradiction(
            "needs per_person, per_dwelling, times_quota or times_previous_average; a plain \
             number needs no table",
        ));
    }
    table.finish()?;
    Ok(Bound { fixed, terms })
}

fn time_of_use(table: &mut Table<'_>, defaults: &VersionDefaults, _: &[Item]) -> Fallible<Rule> {
    let mut list = table.require("prices")?.table()?;
    let mut prices = Vec::new();
    for (name, kind) in TIMES_OF_USE {
        if let Some(node) = list.take(name) {
            prices.push((*kind, node.not_negative()?));
        }
    }
    if prices.is_empty() && !list.has_any() {
        return Err(
            list.contradiction("needs at least one of sharp, peak, flat, valley, deep_valley")
        );
    }
    list.finish()?;
    let unit = unit_in(&defaults.units, DeterminantKind::Usage);
    Ok(Rule::TimeOfUse(TimeOfUseRule { unit, prices }))
}

fn per(table: &mut Table<'_>, fallback: Option<Per>) -> Fallible<Per> {
    enum Word {
        Bill,
        Day,
        Months(NonZeroU32),
    }
    let word = match (table.take("per"), fallback) {
        (Some(node), _) => {
            let words: &[(&str, u32)] =
                &[("bill", 0), ("day", 1), ("month", 2), ("quarter", 3), ("year", 4)];
            match node.one_of(words)? {
                0 => Word::Bill,
                1 => Word::Day,
                2 => Word::Months(NonZeroU32::MIN),
                3 => Word::Months(NonZeroU32::MIN.saturating_add(2)),
                _ => Word::Months(NonZeroU32::MIN.saturating_add(11)),
            }
        }
        (None, Some(per)) => return Ok(per),
        (None, None) => return Err(table.problem(Problem::Missing { key: "per" })),
    };
    let months = match word {
        Word::Bill => return Ok(Per::Bill),
        Word::Day => return Ok(Per::Day),
        Word::Months(months) => months,
    };
    let by_days = table
        .take("part_period")
        .map_or(Ok(true), |node| node.one_of(&[("by_days", true), ("whole", false)]))?;
    let part = match table.take("day_count") {
        Some(node) if !by_days => {
            return Err(node.problem(Problem::Contradiction(
                "a begun period that counts as a whole one needs no day_count".to_owned(),
            )));
        }
        Some(node) if node.text().is_ok_and(|word| word == "calendar") => PartPeriod::Calendar,
        Some(node) => {
            NonZeroU32::new(node.whole(1, 3660)?).map_or(PartPeriod::Calendar, PartPeriod::Days)
        }
        None if by_days => PartPeriod::Calendar,
        None => PartPeriod::Whole,
    };
    Ok(Per::Months { months, part })
}

fn standing(table: &mut Table<'_>, defaults: &VersionDefaults, _: &[Item]) -> Fallible<Rule> {
    let of = match table.take("of") {
        Some(node) => {
            let nodes = if node.is_list() { node.list(4)? } else { vec![node] };
            let mut of = Vec::new();
            for node in nodes {
                let kind = node.one_of(KINDS)?;
                of.push((kind, unit_in(&defaults.units, kind)));
            }
            of
        }
        None => Vec::new(),
    };
    let counted =
        |unit: &Unit| matches!(unit, Unit::Person | Unit::Household | Unit::Meter | Unit::One);
    let measured: Vec<Unit> =
        of.iter().map(|(_, unit)| *unit).filter(|unit| !counted(unit)).collect();
    if measured.len() > 1 {
        return Err(table.contradiction(
            "of multiplies two measured quantities: only persons, dwellings and meters may \
             multiply another one",
        ));
    }
    let unit = measured.first().or(of.first().map(|(_, unit)| unit)).copied().unwrap_or(Unit::One);
    let per = per(table, None)?;
    only(table, &["price", "calibre", "case"])?;
    let cases = match table.take("case") {
        Some(list) => {
            let mut cases = Vec::new();
            for node in list.list(MOST_CASES)? {
                let mut table = node.table()?;
                let when = when(&mut table)?.unwrap_or_default();
                only(&table, &["price", "calibre"])?;
                let price = standing_price(&mut table)?;
                table.finish()?;
                cases.push((when, price));
            }
            cases
        }
        None => vec![(When::default(), standing_price(table)?)],
    };
    Ok(Rule::Standing(StandingRule { of, unit, per, cases }))
}

fn standing_price(table: &mut Table<'_>) -> Fallible<StandingPrice> {
    if let Some(price) = table.take("price") {
        return Ok(StandingPrice::One(price.decimal()?));
    }
    let mut prices: Vec<(Decimal, Decimal)> = Vec::new();
    for node in table.require("calibre")?.list(MOST_ROWS)? {
        let mut table = node.table()?;
        let mm = table.require("mm")?.not_negative()?;
        if prices.iter().any(|(earlier, _)| *earlier == mm) {
            return Err(
                node.problem(Problem::Duplicate(format!("calibre {mm} has a price already")))
            );
        }
        prices.push((mm, table.require("price")?.decimal()?));
        table.finish()?;
    }
    Ok(StandingPrice::ByCalibre(prices))
}

fn mixed_use(table: &mut Table<'_>, defaults: &VersionDefaults, _: &[Item]) -> Fallible<Rule> {
    let of = kind(table)?;
    let places = table.take("quantity_places").map_or(Ok(3), |node| node.whole(0, 9))?;
    let (mut fixed, mut shares) = (Vec::new(), Vec::new());
    for (place, node) in table.require("part")?.list(MOST_BLOCKS)?.iter().enumerate() {
        let number = u8::try_from(place + 1).map_err(|_| node.out_of_range("too many parts"))?;
        let mut table = node.table()?;
        only(&table, &["quantity", "percent"])?;
        let price = table.require("price")?.not_negative()?;
        if let Some(node) = table.take("quantity") {
            fixed.push(MixedPart { number, amount: node.not_negative()?, price });
        } else {
            let amount = table.require("percent")?.not_negative()?;
            shares.push(MixedPart { number, amount, price });
        }
        table.finish()?;
    }
    if shares.iter().map(|part| part.amount).sum::<Decimal>() != Decimal::ONE_HUNDRED {
        return Err(table.contradiction(
            "the percents of its parts must add up to 100: otherwise usage would have no price",
        ));
    }
    let places = Rounding { places, mode: RoundingMode::HalfUp };
    let unit = unit_in(&defaults.units, of);
    Ok(Rule::MixedUse(MixedUseRule { of, unit, places, fixed, shares }))
}

/// Items an item refers to: a list of ids that stand above it, or "all".
fn references(table: &mut Table<'_>, earlier: &[Item]) -> Fallible<Vec<usize>> {
    let node = table.require("of")?;
    if !node.is_list() && node.text()? == "all" {
        if earlier.is_empty() {
            return Err(node.out_of_range("\"all\" means all items above: there is none"));
        }
        return Ok((0..earlier.len()).collect());
    }
    let nodes = if node.is_list() { node.list(MOST_ITEMS)? } else { vec![node] };
    let mut found = Vec::new();
    for node in nodes {
        let name = node.text()?;
        let place = earlier.iter().position(|item| &*item.facts.id == name).ok_or_else(|| {
            let name = name.to_owned();
            node.problem(Problem::Unknown { what: "item", name, place: "above this one" })
        })?;
        if found.contains(&place) {
            return Err(node.problem(Problem::Duplicate(format!("{name:?} is listed twice"))));
        }
        found.push(place);
    }
    Ok(found)
}

fn percentage(table: &mut Table<'_>, _: &VersionDefaults, earlier: &[Item]) -> Fallible<Rule> {
    let percent = table.require("percent")?.decimal()?;
    Ok(Rule::Percentage { percent, of: references(table, earlier)? })
}

fn minimum(table: &mut Table<'_>, _: &VersionDefaults, earlier: &[Item]) -> Fallible<Rule> {
    let amount = table.require("amount")?.not_negative()?;
    let of = references(table, earlier)?;
    let per = per(table, Some(Per::Bill))?;
    Ok(Rule::Minimum { amount, of, per })
}

fn power_factor_rule(
    table: &mut Table<'_>,
    defaults: &VersionDefaults,
    earlier: &[Item],
) -> Fallible<Rule> {
    let of = references(table, earlier)?;
    let less_per_unit =
        table.take("less_per_unit").map_or(Ok(Decimal::ZERO), |node| node.not_negative())?;
    only(table, &["table", "row"])?;
    let rows = if let Some(node) = table.take("table") {
        node.one_of(&[("standard-0.90", power_factor::STANDARD_0_90)])?.to_vec()
    } else {
        let list = table.require("row")?.list(MOST_ROWS)?;
        power_factor::read_rows(&list)?
    };
    Ok(Rule::PowerFactor(PowerFactorRule {
        of,
        less_per_unit,
        active_unit: unit_in(&defaults.units, DeterminantKind::Usage),
        reactive_unit: unit_in(&defaults.units, DeterminantKind::ReactiveUsage),
        rows,
    }))
}

/// Every determinant the items may ask for.
pub(crate) fn asked(items: &[Item]) -> Vec<DeterminantKind> {
    let mut asked = Vec::new();
    for item in items {
        persons_asked(&item.when, &mut asked);
        match &item.rule {
            Rule::Usage(rule) => {
                asked.push(rule.of);
                for case in &rule.cases {
                    persons_asked(&case.when, &mut asked);
                    if let Scale::Blocks(blocks) = &case.scale {
                        let bounds = blocks.iter().filter_map(|block| block.until.as_ref());
                        asked.extend(bounds.flat_map(|bound| &bound.terms).map(|term| term.kind));
                    }
                }
            }
            Rule::TimeOfUse(rule) => asked.extend(rule.prices.iter().map(|(kind, _)| *kind)),
            Rule::Standing(rule) => {
                asked.extend(rule.of.iter().map(|(kind, _)| *kind));
                for (when, price) in &rule.cases {
                    persons_asked(when, &mut asked);
                    if matches!(price, StandingPrice::ByCalibre(_)) {
                        asked.push(DeterminantKind::MeterCalibre);
                    }
                }
            }
            Rule::MixedUse(rule) => asked.push(rule.of),
            Rule::PowerFactor(_) => {
                asked.extend([DeterminantKind::Usage, DeterminantKind::ReactiveUsage]);
            }
            Rule::Percentage { .. } | Rule::Minimum { .. } => {}
        }
    }
    asked
}

fn persons_asked(when: &When, asked: &mut Vec<DeterminantKind>) {
    if when.persons_from.is_some() || when.persons_until.is_some() {
        asked.push(DeterminantKind::Persons);
    }
}
