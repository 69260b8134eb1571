//! Rate schedules: published tariffs with their versions by service date.
//!
//! In: the text of a schedule file. Out: versions checked and compiled for rating, each with the
//! hash every bill stores (R002, R035, design decision 6).
//! Never here: the clock, files, who may activate a version.

use crate::{
    Problem, RatingError, RatingInput, ScheduleError, WindowUse,
    file::{self, Node, Table},
    read_items,
    read_version::{self, VersionDefaults},
    rules::{Item, Rule},
    window::Window,
};
use chrono::NaiveDate;
use model::{DeterminantKind, Period, Quantity, Rounding, Unit};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The most versions a schedule file may have.
const MOST_VERSIONS: usize = 500;

/// What is done with a service period inside which the price changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceChange {
    /// Nobody decided: the account waits.
    Refuse,
    /// The usage is parted by days, each part rated with its own version.
    ByDays,
    /// All of it is rated with the version in force on the first day.
    VersionAtStart,
    /// All of it is rated with the version in force on the last day (按抄见日).
    VersionAtEnd,
}

/// A published tariff: one file, one or more versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    name: String,
    title_zh: String,
    title_en: String,
    use_class: Option<String>,
    price_change: PriceChange,
    versions: Vec<Version>,
}

/// The text of a schedule in force for a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub(crate) valid_from: NaiveDate,
    pub(crate) valid_until: Option<NaiveDate>,
    document: String,
    source: String,
    hash: [u8; 32],
    pub(crate) units: [Unit; DeterminantKind::ALL.len()],
    pub(crate) assume: crate::Determinants,
    /// Set when lines are rounded for show and the total once, with a line for the difference.
    pub(crate) total_rounding: Option<Rounding>,
    pub(crate) items: Vec<Item>,
    asks_for: Vec<DeterminantKind>,
}

impl Schedule {
    /// Reads a schedule file (`docs/rate-schedules.md`).
    ///
    /// # Errors
    /// The first thing that is wrong, with its path and line: syntax, a key nobody understands,
    /// a number that is not exact, blocks with gaps, versions that overlap.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let tree = file::parse(text)?;
        let mut top = Table::of_file(text, tree.get_ref());
        let mut head = String::new();
        let mut noted = |node: &Node<'_>| {
            node.canonical(&mut head);
            head.push('\n');
        };
        let name = top.require("name")?;
        noted(&name);
        let name = name.name()?.to_owned();
        let title_zh = optional_text(&mut top, "title_zh")?;
        let title_en = optional_text(&mut top, "title_en")?;
        let use_class = match top.take("use_class") {
            Some(node) => Some(node.name()?.to_owned()),
            None => None,
        };
        let currency = match top.take("currency") {
            Some(node) => {
                noted(&node);
                let word = node.text()?;
                if word.len() > 12 {
                    return Err(node.out_of_range("a currency is a short word: \"yuan\""));
                }
                word.to_owned()
            }
            None => "yuan".to_owned(),
        };
        let price_change = match top.take("price_change") {
            Some(node) => {
                noted(&node);
                node.one_of(&[
                    ("refuse", PriceChange::Refuse),
                    ("by_days", PriceChange::ByDays),
                    ("version_at_start", PriceChange::VersionAtStart),
                    ("version_at_end", PriceChange::VersionAtEnd),
                ])?
            }
            None => PriceChange::Refuse,
        };
        let mut versions = Vec::new();
        for node in top.require("version")?.list(MOST_VERSIONS)? {
            let version = Version::read(&node, &head, &currency)?;
            if let Some(before) = versions.last() {
                let before: &Version = before;
                if version.valid_from <= before.valid_from
                    || before.valid_until.is_some_and(|until| version.valid_from < until)
                {
                    return Err(node.problem(Problem::Duplicate(format!(
                        "this version (from {}) and the one before it (from {}) overlap: versions \
                         stand in the order of valid_from, and a valid_until is not later than the \
                         next valid_from",
                        version.valid_from, before.valid_from
                    ))));
                }
            }
            versions.push(version);
        }
        // A version without an end ends where the next one begins.
        let starts: Vec<NaiveDate> = versions.iter().skip(1).map(|next| next.valid_from).collect();
        for (version, next) in versions.iter_mut().zip(starts) {
            version.valid_until = Some(version.valid_until.map_or(next, |until| until.min(next)));
        }
        top.finish()?;
        let title_en = title_en.or_else(|| title_zh.clone()).unwrap_or_else(|| name.clone());
        let title_zh = title_zh.unwrap_or_else(|| title_en.clone());
        Ok(Self { name, title_zh, title_en, use_class, price_change, versions })
    }

    /// The name programs use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Chinese title.
    #[must_use]
    pub fn title_zh(&self) -> &str {
        &self.title_zh
    }

    /// The English title.
    #[must_use]
    pub fn title_en(&self) -> &str {
        &self.title_en
    }

    /// The use class (R036) the schedule is for, if it names one.
    #[must_use]
    pub fn use_class(&self) -> Option<&str> {
        self.use_class.as_deref()
    }

    /// What is done with a period inside which the price changes.
    #[must_use]
    pub const fn price_change(&self) -> PriceChange {
        self.price_change
    }

    /// The versions in the order of time.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The version in force on a day of service.
    ///
    /// # Errors
    /// When none is.
    pub fn version_on(&self, day: NaiveDate) -> Result<&Version, RatingError> {
        self.versions
            .iter()
            .rev()
            .find(|version| version.in_force_on(day))
            .ok_or_else(|| RatingError::NoVersion { schedule: self.name.clone(), day })
    }
}

fn optional_text(
    table: &mut Table<'_>,
    key: &'static str,
) -> Result<Option<String>, ScheduleError> {
    table.take(key).map(|node| node.text().map(str::to_owned)).transpose()
}

impl Version {
    fn read(node: &Node<'_>, head: &str, currency: &str) -> Result<Self, ScheduleError> {
        let mut table = node.table()?;
        let mut canonical = head.to_owned();
        node.canonical(&mut canonical);
        let hash: [u8; 32] = Sha256::digest(canonical.as_bytes()).into();

        let from = table.require("valid_from")?;
        let valid_from = from.day()?;
        let valid_until = match table.take("valid_until") {
            Some(until) => {
                let day = until.day()?;
                if day <= valid_from {
                    return Err(until.out_of_range(format!(
                        "{day} is the first day outside and must be after valid_from {valid_from}"
                    )));
                }
                Some(day)
            }
            None => None,
        };
        let document = table.require("document")?.text()?.to_owned();
        let source = table.require("source")?.text()?.to_owned();
        let units = read_version::units(&mut table)?;
        let assume = read_version::assume(&mut table, &units)?;
        let rounding = read_version::version_rounding(&mut table)?;
        let defaults = VersionDefaults {
            units,
            rounding,
            window: read_version::window(&mut table)?,
            across: read_version::across(&mut table)?,
            currency: currency.to_owned(),
        };
        let items = read_items::items(&mut table, &defaults)?;
        table.finish()?;
        let mut asks_for = read_items::asked(&items);
        asks_for.sort_unstable();
        asks_for.dedup();
        let total_rounding = rounding.of_total();
        Ok(Self {
            valid_from,
            valid_until,
            document,
            source,
            hash,
            units,
            assume,
            total_rounding,
            items,
            asks_for,
        })
    }

    /// The first day it is in force.
    #[must_use]
    pub const fn valid_from(&self) -> NaiveDate {
        self.valid_from
    }

    /// The first day it is no longer in force, if that is known.
    #[must_use]
    pub const fn valid_until(&self) -> Option<NaiveDate> {
        self.valid_until
    }

    /// Whether it is in force on a day of service.
    #[must_use]
    pub fn in_force_on(&self, day: NaiveDate) -> bool {
        self.valid_from <= day && self.valid_until.is_none_or(|until| day < until)
    }

    /// The approving document's number (R002).
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Where the text was taken from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 over the schedule's name, currency, price-change rule and this version's text in a
    /// form that layout, comments, the order of keys and the spelling of numbers do not change.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The hash in hexadecimal.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        self.hash.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            if write!(hex, "{byte:02x}").is_err() {
                hex.clear();
            }
            hex
        })
    }

    /// The unit a determinant is priced in.
    #[must_use]
    pub fn unit_of(&self, kind: DeterminantKind) -> Unit {
        self.units.get(kind as usize).copied().unwrap_or(Unit::One)
    }

    /// The determinants some item or case of the version may ask for, in the order of
    /// [`DeterminantKind::ALL`]. Times of use and assumed determinants may be left out.
    #[must_use]
    pub fn asks_for(&self) -> &[DeterminantKind] {
        &self.asks_for
    }

    /// The items' ids in the order of the schedule.
    pub fn item_ids(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| &*item.facts.id)
    }

    /// The items whose blocks carry use from bill to bill: those with rows in the tier ledger.
    pub fn tiered_items(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter(|item| tier_window(item).is_some()).map(|item| &*item.facts.id)
    }

    /// The windows this service period touches, per tiered item, with quantity zero: what to look
    /// up in the tier ledger before rating.
    ///
    /// # Errors
    /// When the period cannot be placed into windows.
    pub fn windows(
        &self,
        service: Period,
        window_start: Option<NaiveDate>,
    ) -> Result<Vec<WindowUse>, RatingError> {
        let mut touched = Vec::new();
        for item in &self.items {
            let (Some(window), Rule::Usage(rule)) = (tier_window(item), &item.rule) else {
                continue;
            };
            let named = |problem| crate::rate::window_error(&item.facts.id, service, problem);
            let mut take = |part: crate::window::Part| {
                touched.push(WindowUse {
                    item: item.facts.id.clone(),
                    window: part.window,
                    quantity: Quantity::zero(rule.unit),
                });
                Ok::<(), crate::window::WindowProblem>(())
            };
            window
                .part(service, rust_decimal::Decimal::ZERO, window_start, &mut take)
                .map_err(named)?;
        }
        Ok(touched)
    }
}

fn tier_window(item: &Item) -> Option<&Window> {
    match &item.rule {
        Rule::Usage(rule) => rule.window.as_ref().filter(|window| window.carries()),
        Rule::TimeOfUse(_)
        | Rule::Standing(_)
        | Rule::MixedUse(_)
        | Rule::Percentage(_)
        | Rule::PowerFactor(_)
        | Rule::Minimum { .. } => None,
    }
}

impl Schedule {
    /// Rates a period with the version (or versions) in force on its days.
    ///
    /// # Errors
    /// When no version is in force, when the price changes inside the period and the schedule
    /// does not say how to part it, or when the version cannot rate it.
    pub fn rate(&self, input: &RatingInput) -> Result<crate::Rated, RatingError> {
        crate::rate::rate_schedule(self, input)
    }
}
