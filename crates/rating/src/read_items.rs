//! The words of the file, turned into rules (`docs/rate-schedules.md` is their description).
//!
//! In: tables of the schedule file. Out: compiled rules with every number exact, every reference
//! resolved and every contradiction refused.
//! Never here: arithmetic on bills, TOML syntax (see `file`).

use crate::{
    Problem, ScheduleError,
    file::{Node, Table},
    line::ItemFacts,
    power_factor,
    read_version::{
        KINDS, RoundedAt, Units, VersionDefaults, WindowWords, across, rounding, unit_in, window,
    },
    rules::{
        Block, Bound, Item, MixedPart, MixedUseRule, PartPeriod, Per, PercentageRule,
        PowerFactorRule, Rule, Scale, StandingPrice, StandingRule, Term, TimeOfUseRule, UsageCase,
        UsageRule, When,
    },
    window::{Across, Window},
};
use model::{DeterminantKind, Rounding, RoundingMode, Unit};
use rust_decimal::Decimal;
use std::{num::NonZeroU32, sync::Arc};

type Fallible<T> = Result<T, ScheduleError>;

const MOST_ITEMS: usize = 64;
const MOST_CASES: usize = 64;
const MOST_BLOCKS: usize = 64;
const MOST_ROWS: usize = 101;

const TIMES_OF_USE: &[(&str, DeterminantKind)] = &[
    ("sharp", DeterminantKind::UsageSharp),
    ("peak", DeterminantKind::UsagePeak),
    ("flat", DeterminantKind::UsageFlat),
    ("valley", DeterminantKind::UsageValley),
    ("deep_valley", DeterminantKind::UsageDeepValley),
];

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
    let calibre = match table.take("calibre") {
        Some(node) => {
            let nodes = if node.is_list() { node.list(MOST_ROWS)? } else { vec![node] };
            nodes.iter().map(Node::not_negative).collect::<Fallible<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let when = When { persons_from, persons_until, class, unless_class, calibre, months };
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
    let mut number = |key| table.take(key).map(|node| node.not_negative()).transpose();
    let (share, at_least, at_most) = (number("share")?, number("at_least")?, number("at_most")?);
    if let (Some(least), Some(most)) = (at_least, at_most)
        && least > most
    {
        return Err(table.contradiction("at_least is more than at_most"));
    }
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
    let tiered = cases.iter().any(|case| matches!(case.scale, Scale::Blocks(_)));
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
    Ok(Rule::Usage(UsageRule { of, unit, share, at_least, at_most, window, cases }))
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
    // One open block is one price.
    match blocks.as_slice() {
        [Block { price, until: None }] => Ok(Scale::Flat(*price)),
        _ => Ok(Scale::Blocks(blocks)),
    }
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
    let of = references(table, earlier)?;
    let of_block = match table.take("of_block") {
        Some(node) => u8::try_from(node.whole(1, 64)?).ok(),
        None => None,
    };
    let of_exact = table
        .take("base")
        .map_or(Ok(false), |node| node.one_of(&[("rounded", false), ("exact", true)]))?;
    Ok(Rule::Percentage(PercentageRule { percent, of, of_block, of_exact }))
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
        customer_asked(&item.when, &mut asked);
        match &item.rule {
            Rule::Usage(rule) => {
                asked.push(rule.of);
                for case in &rule.cases {
                    customer_asked(&case.when, &mut asked);
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
                    customer_asked(when, &mut asked);
                    if matches!(price, StandingPrice::ByCalibre(_)) {
                        asked.push(DeterminantKind::MeterCalibre);
                    }
                }
            }
            Rule::MixedUse(rule) => asked.push(rule.of),
            Rule::PowerFactor(_) => {
                asked.extend([DeterminantKind::Usage, DeterminantKind::ReactiveUsage]);
            }
            Rule::Percentage(_) | Rule::Minimum { .. } => {}
        }
    }
    asked
}

fn customer_asked(when: &When, asked: &mut Vec<DeterminantKind>) {
    if when.persons_from.is_some() || when.persons_until.is_some() {
        asked.push(DeterminantKind::Persons);
    }
    if !when.calibre.is_empty() {
        asked.push(DeterminantKind::MeterCalibre);
    }
}
