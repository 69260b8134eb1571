//! What can be wrong with a schedule file, and with one rating.
//!
//! In: places and causes. Out: errors that say which key of the file, or which item and number.
//! Never here: recovery; a schedule that does not load is not used, an account that does not rate
//! is put aside.

use chrono::NaiveDate;
use model::{DeterminantKind, MoneyError, Period, Unit};
use std::sync::Arc;

/// A schedule file that cannot be used, and the place that says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", self.place())]
pub struct ScheduleError {
    /// The key in the file: `version[0].item[1].block[2].from`; empty for the file as a whole.
    pub path: String,
    /// The line of the file, from 1; 0 when the problem has no line.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl ScheduleError {
    fn place(&self) -> String {
        match (self.path.is_empty(), self.line) {
            (true, 0) => String::new(),
            (true, line) => format!("line {line}: "),
            (false, 0) => format!("{}: ", self.path),
            (false, line) => format!("{} (line {line}): ", self.path),
        }
    }

    /// A stable word for programs: `unknown_key`, `missing`, ….
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self.problem {
            Problem::Syntax(_) => "syntax",
            Problem::TooBig { .. } => "too_big",
            Problem::UnknownKey { .. } => "unknown_key",
            Problem::Missing { .. } => "missing",
            Problem::WrongKind { .. } => "wrong_kind",
            Problem::NotExact(_) => "not_exact",
            Problem::OutOfRange(_) => "out_of_range",
            Problem::NotOneOf { .. } => "not_one_of",
            Problem::NotADate(_) => "not_a_date",
            Problem::Contradiction(_) => "contradiction",
            Problem::Duplicate(_) => "duplicate",
            Problem::Unknown { .. } => "unknown_reference",
        }
    }
}

/// What is wrong at one place of a schedule file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// More than a schedule can sensibly hold.
    #[error("{what}: {found}, at most {most} are allowed")]
    TooBig {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// A key that means nothing here; it is refused, never passed over.
    #[error("{key:?} means nothing here; what can stand here: {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What would be understood.
        known: String,
    },
    /// A key that must be there.
    #[error("{key:?} is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value of another kind than the key asks for.
    #[error("must be {expected}, not {found}")]
    WrongKind {
        /// What is asked for.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A number that cannot be taken over exactly.
    #[error(
        "{0:?} is not a plain decimal number: digits, at most one point, at most 12 digits before \
         and 9 after it, no exponent (write \"1.62\" or 1.62)"
    )]
    NotExact(String),
    /// A number outside what makes sense.
    #[error("{0}")]
    OutOfRange(String),
    /// A word that is none of the choices.
    #[error("{found:?} is not one of {choices}")]
    NotOneOf {
        /// The word.
        found: String,
        /// The choices.
        choices: String,
    },
    /// Not a calendar day.
    #[error("{0:?} is not a day, write \"2026-03-01\"")]
    NotADate(String),
    /// Two things that cannot both hold.
    #[error("{0}")]
    Contradiction(String),
    /// A name or a period that is taken.
    #[error("{0}")]
    Duplicate(String),
    /// A reference to something that is not there.
    #[error("there is no {what} {name:?} {place}")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        place: &'static str,
    },
}

/// A period that cannot be rated; the account waits for somebody to look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// No rate version is in force on a day of service (R035).
    #[error("schedule {schedule} has no version in force on {day}")]
    NoVersion {
        /// The schedule's name.
        schedule: String,
        /// The day.
        day: NaiveDate,
    },
    /// The service period does not lie inside the version it is to be rated with.
    #[error("service {service} is not inside the version in force {from}..{}", until_text(*.until))]
    OutsideVersion {
        /// The days of service.
        service: Period,
        /// The version's first day.
        from: NaiveDate,
        /// The first day after it.
        until: Option<NaiveDate>,
    },
    /// The price changes inside the period and the schedule does not say how to part it.
    #[error(
        "the price changes on {on}, inside service {service}; price_change of {schedule} is \"refuse\""
    )]
    PriceChangeInside {
        /// The schedule's name.
        schedule: String,
        /// The first day of the newer version.
        on: NaiveDate,
        /// The days of service.
        service: Period,
    },
    /// A number the schedule asks for was not given.
    #[error("item {item} needs {kind}, which was not given")]
    MissingDeterminant {
        /// The item.
        item: Arc<str>,
        /// The number.
        kind: DeterminantKind,
    },
    /// A number came in another unit than the schedule prices.
    #[error("item {item} prices {kind} in {expected}, not in {found}")]
    UnitMismatch {
        /// The item.
        item: Arc<str>,
        /// The number.
        kind: DeterminantKind,
        /// The unit of the schedule.
        expected: Unit,
        /// The unit that was given.
        found: Unit,
    },
    /// A number that cannot be: negative persons, more outside the blocks than used.
    #[error("item {item}: {kind} cannot be {found}")]
    AbsurdDeterminant {
        /// The item.
        item: Arc<str>,
        /// The number.
        kind: DeterminantKind,
        /// What was given.
        found: rust_decimal::Decimal,
    },
    /// None of an item's cases fits this customer.
    #[error("no case of item {item} fits this customer")]
    NoCase {
        /// The item.
        item: Arc<str>,
    },
    /// The price list by calibre has no such calibre.
    #[error("item {item} has no price for calibre {calibre} mm")]
    NoCalibre {
        /// The item.
        item: Arc<str>,
        /// The meter's calibre.
        calibre: rust_decimal::Decimal,
    },
    /// Usage of a time of use that has no price would go unbilled.
    #[error("item {item} has no price for {kind}")]
    NoTimeOfUsePrice {
        /// The item.
        item: Arc<str>,
        /// The time of use.
        kind: DeterminantKind,
    },
    /// The times of use do not add up to the usage.
    #[error("item {item}: the times of use add up to {sum}, the usage is {usage}")]
    TimesOfUseDoNotAddUp {
        /// The item.
        item: Arc<str>,
        /// Their sum.
        sum: rust_decimal::Decimal,
        /// The usage.
        usage: rust_decimal::Decimal,
    },
    /// The period reaches into a second window and the schedule does not say how to part it.
    #[error(
        "item {item}: service {service} reaches over {boundary}, where a new window of its blocks \
         begins; across_windows of the schedule is \"refuse\""
    )]
    AcrossWindows {
        /// The item.
        item: Arc<str>,
        /// The days of service.
        service: Period,
        /// The first day of the next window.
        boundary: NaiveDate,
    },
    /// Windows count from the account's start, which was not given.
    #[error("item {item} counts its windows from the account's start: window_start was not given")]
    MissingWindowStart {
        /// The item.
        item: Arc<str>,
    },
    /// More would be taken back than was used in the window.
    #[error("item {item}: {usage} on top of {before} used makes the window's use negative")]
    NegativeUse {
        /// The item.
        item: Arc<str>,
        /// Used before.
        before: rust_decimal::Decimal,
        /// The usage of the period.
        usage: rust_decimal::Decimal,
    },
    /// For this customer a block would end before it begins.
    #[error(
        "item {item}: for this customer block {block} ends at {until}, before it begins at {from}"
    )]
    BlocksOutOfOrder {
        /// The item.
        item: Arc<str>,
        /// Which block, from 1.
        block: u8,
        /// Where it begins.
        from: rust_decimal::Decimal,
        /// Where it ends.
        until: rust_decimal::Decimal,
    },
    /// A seasonal case holds for some days of the period only.
    #[error("item {item}: the season changes inside service {service}; rate the parts one by one")]
    SeasonInside {
        /// The item.
        item: Arc<str>,
        /// The days of service.
        service: Period,
    },
    /// A power factor needs some active energy.
    #[error("item {item}: without active energy there is no power factor")]
    NoPowerFactor {
        /// The item.
        item: Arc<str>,
    },
    /// The table of the power factor has no row for it.
    #[error("item {item}: the table has no row for power factor 0.{hundredths:02}")]
    NoPowerFactorRow {
        /// The item.
        item: Arc<str>,
        /// The factor in hundredths.
        hundredths: u8,
    },
    /// A day outside the calendar.
    #[error("item {item}: the window of {service} has no calendar days")]
    Calendar {
        /// The item.
        item: Arc<str>,
        /// The days of service.
        service: Period,
    },
    /// A result with no room in an exact decimal.
    #[error("item {item}: {source}")]
    Overflow {
        /// The item.
        item: Arc<str>,
        /// Why.
        source: MoneyError,
    },
}

fn until_text(until: Option<NaiveDate>) -> String {
    until.map_or_else(String::new, |day| day.to_string())
}

impl RatingError {
    /// A stable word for programs and outsort reasons.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            RatingError::NoVersion { .. } => "no_version",
            RatingError::OutsideVersion { .. } => "outside_version",
            RatingError::PriceChangeInside { .. } => "price_change_inside",
            RatingError::MissingDeterminant { .. } => "missing_determinant",
            RatingError::UnitMismatch { .. } => "unit_mismatch",
            RatingError::AbsurdDeterminant { .. } => "absurd_determinant",
            RatingError::NoCase { .. } => "no_case",
            RatingError::NoCalibre { .. } => "no_calibre",
            RatingError::NoTimeOfUsePrice { .. } => "no_time_of_use_price",
            RatingError::TimesOfUseDoNotAddUp { .. } => "times_of_use_do_not_add_up",
            RatingError::AcrossWindows { .. } => "across_windows",
            RatingError::MissingWindowStart { .. } => "missing_window_start",
            RatingError::NegativeUse { .. } => "negative_use",
            RatingError::BlocksOutOfOrder { .. } => "blocks_out_of_order",
            RatingError::SeasonInside { .. } => "season_inside",
            RatingError::NoPowerFactor { .. } => "no_power_factor",
            RatingError::NoPowerFactorRow { .. } => "no_power_factor_row",
            RatingError::Calendar { .. } => "calendar",
            RatingError::Overflow { .. } => "overflow",
        }
    }

    /// The determinant the error is about, if it is about one.
    #[must_use]
    pub const fn determinant(&self) -> Option<DeterminantKind> {
        match self {
            RatingError::MissingDeterminant { kind, .. }
            | RatingError::UnitMismatch { kind, .. }
            | RatingError::AbsurdDeterminant { kind, .. }
            | RatingError::NoTimeOfUsePrice { kind, .. } => Some(*kind),
            RatingError::NoCalibre { .. } => Some(DeterminantKind::MeterCalibre),
            RatingError::NegativeUse { .. } | RatingError::TimesOfUseDoNotAddUp { .. } => {
                Some(DeterminantKind::Usage)
            }
            RatingError::NoPowerFactor { .. } | RatingError::NoPowerFactorRow { .. } => {
                Some(DeterminantKind::ReactiveUsage)
            }
            RatingError::NoVersion { .. }
            | RatingError::OutsideVersion { .. }
            | RatingError::PriceChangeInside { .. }
            | RatingError::NoCase { .. }
            | RatingError::AcrossWindows { .. }
            | RatingError::MissingWindowStart { .. }
            | RatingError::BlocksOutOfOrder { .. }
            | RatingError::SeasonInside { .. }
            | RatingError::Calendar { .. }
            | RatingError::Overflow { .. } => None,
        }
    }
}
