//! From determinants to a draft: choose the rate version, rate, collect.
//!
//! In: an account's agreements with their numbers, the rate versions, what windows have used.
//! Out: a draft, or why the account is put aside.
//! Never here: reads, SQL, prices.

use crate::{
    BillError, BillKey, BillLine, DayShare, Draft, HoldReason, Segment, TierAppend, TierHolder,
    VersionRef, split,
};
use chrono::NaiveDate;
use model::{AgreementId, BillingDeterminant, DeterminantKind, HouseholdId, Period};
use rating::{PriceChange, Rated, RatingError, RatingInput, Schedule, WindowUse};

/// The text of a schedule in force for a period.
#[derive(Debug, Clone, Copy)]
pub struct TariffVersion<'a> {
    /// Its id and hash, kept with the bill.
    pub reference: VersionRef,
    /// First service date it prices.
    pub from: NaiveDate,
    /// First service date it no longer prices; `None` = still in force.
    pub until: Option<NaiveDate>,
    /// The schedule it says.
    pub schedule: &'a Schedule,
}

/// An agreement with the numbers of its service period.
#[derive(Debug, Clone)]
pub struct AgreementInput<'a> {
    /// The agreement.
    pub agreement: AgreementId,
    /// Whose block windows it fills; on its own without one.
    pub household: Option<HouseholdId>,
    /// The days of the cycle it is billed for.
    pub service: Period,
    /// Classes of the customer the schedule's cases ask for.
    pub classes: Vec<String>,
    /// Where windows counted "from the account" begin.
    pub window_start: Option<NaiveDate>,
    /// The numbers of the whole service period.
    pub determinants: Vec<BillingDeterminant>,
    /// The versions of its schedule, without overlap, in any order.
    pub versions: Vec<TariffVersion<'a>>,
}

/// What a household or agreement has used of a window before this bill: a sum of the tier ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowUsed {
    /// Whose window.
    pub holder: TierHolder,
    /// How much of which.
    pub used: WindowUse,
}

/// All it takes to write one bill.
#[derive(Debug, Clone)]
pub struct BillInput<'a> {
    /// What the bill is for.
    pub key: BillKey,
    /// The agreements to bill, in the order their usage fills a shared window.
    pub agreements: Vec<AgreementInput<'a>>,
    /// What the windows of these agreements have used.
    pub window_used: Vec<WindowUsed>,
}

/// Why there is no draft. The account waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsortReason {
    /// There is nothing to bill: no agreement was given.
    #[error("no agreement to bill")]
    NoAgreement,
    /// No rate version is in force on a day of service.
    #[error("agreement {agreement}: no rate version is in force on {day}")]
    MissingTariff {
        /// The agreement.
        agreement: AgreementId,
        /// The first such day.
        day: NaiveDate,
    },
    /// Usage is negative.
    #[error("agreement {agreement}: {kind} is {quantity}, below zero")]
    NegativeUsage {
        /// The agreement.
        agreement: AgreementId,
        /// Which number.
        kind: DeterminantKind,
        /// How much.
        quantity: model::Quantity,
    },
    /// A share of usage does not fit an exact decimal.
    #[error("agreement {agreement}: usage cannot be parted by days")]
    Unsplittable {
        /// The agreement.
        agreement: AgreementId,
    },
    /// The schedule cannot price the period.
    #[error("agreement {agreement}: {source}")]
    Rating {
        /// The agreement.
        agreement: AgreementId,
        /// Why.
        source: RatingError,
    },
    /// The bill contradicts itself.
    #[error(transparent)]
    Bill(#[from] BillError),
}

impl OutsortReason {
    /// A stable name for lists and counters.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAgreement => "no_agreement",
            Self::MissingTariff { .. } => "missing_tariff",
            Self::NegativeUsage { .. } => "negative_usage",
            Self::Unsplittable { .. } => "overflow",
            Self::Rating { source, .. } => source.code(),
            Self::Bill(_) => "does_not_add_up",
        }
    }
}

impl From<&OutsortReason> for HoldReason {
    fn from(reason: &OutsortReason) -> Self {
        HoldReason::new(reason.code(), reason.to_string())
    }
}

/// Writes the bill of one account and cycle. Rate versions are chosen by service date; where one
/// changes inside a service period the segment is parted *by days* (see `split`). Windows are
/// rated cumulatively: each part sees what the parts before it used.
///
/// # Errors
/// When a number or a tariff is missing or makes no sense; nothing is ever billed in part.
pub fn draft_bill(input: &BillInput<'_>) -> Result<Draft, OutsortReason> {
    if input.agreements.is_empty() {
        return Err(OutsortReason::NoAgreement);
    }
    let mut used = input.window_used.clone();
    let mut segments = Vec::with_capacity(input.agreements.len());
    for agreement in &input.agreements {
        segments_of(agreement, &mut used, &mut segments)?;
    }
    Ok(Draft::new(input.key, segments)?)
}

/// Rates one agreement, part by part; appends to `used` what it uses.
fn segments_of(
    agreement: &AgreementInput<'_>,
    used: &mut Vec<WindowUsed>,
    segments: &mut Vec<Segment>,
) -> Result<(), OutsortReason> {
    let id = agreement.agreement;
    let service = agreement.service;
    for determinant in &agreement.determinants {
        if split::adds_up(determinant.kind)
            && determinant.quantity.value < rust_decimal::Decimal::ZERO
        {
            return Err(OutsortReason::NegativeUsage {
                agreement: id,
                kind: determinant.kind,
                quantity: determinant.quantity,
            });
        }
    }
    let holder = holder_of(agreement);
    let whole_usage = agreement
        .determinants
        .iter()
        .find(|determinant| determinant.kind == DeterminantKind::Usage)
        .map(|determinant| determinant.quantity);
    for (part, version) in parts(agreement)? {
        let determinants = split::determinants_of(part, service, &agreement.determinants)
            .ok_or(OutsortReason::Unsplittable { agreement: id })?;
        let mut question = RatingInput::new(part, determinants.iter().collect());
        question.window_used = used
            .iter()
            .filter(|window| window.holder == holder)
            .map(|window| window.used.clone())
            .collect();
        question.window_start = agreement.window_start;
        question.classes.clone_from(&agreement.classes);
        let Rated { lines, total, tier_usage } = version
            .schedule
            .rate(&question)
            .map_err(|source| OutsortReason::Rating { agreement: id, source })?;
        used.extend(tier_usage.iter().map(|used| WindowUsed { holder, used: used.clone() }));
        let share = whole_usage.filter(|_| part != service).map(|whole| DayShare {
            days: part.days(),
            of_days: service.days(),
            whole,
        });
        segments.push(Segment {
            agreement: id,
            service: part,
            version: version.reference,
            share,
            determinants,
            lines: lines.iter().map(BillLine::from).collect(),
            total,
            tier_appends: tier_usage
                .into_iter()
                .map(|WindowUse { item, window, quantity }| TierAppend {
                    holder,
                    item,
                    window,
                    quantity,
                })
                .collect(),
        });
    }
    Ok(())
}

/// The windows an agreement's service period may touch, with quantity zero: what to look up in
/// the tier ledger before [`draft_bill`]. Windows of every version that overlaps the period.
///
/// # Errors
/// When no version is in force, or the period cannot be placed into windows.
pub fn windows_of(agreement: &AgreementInput<'_>) -> Result<Vec<WindowUsed>, OutsortReason> {
    let id = agreement.agreement;
    let holder = holder_of(agreement);
    let mut windows: Vec<WindowUsed> = Vec::new();
    for (part, version) in parts(agreement)? {
        for text in version.schedule.versions() {
            if text.valid_from() >= part.until()
                || text.valid_until().is_some_and(|until| until <= part.from())
            {
                continue;
            }
            let touched = text
                .windows(part, agreement.window_start)
                .map_err(|source| OutsortReason::Rating { agreement: id, source })?;
            for used in touched {
                let window = WindowUsed { holder, used };
                if !windows.contains(&window) {
                    windows.push(window);
                }
            }
        }
    }
    Ok(windows)
}

fn holder_of(agreement: &AgreementInput<'_>) -> TierHolder {
    let alone = TierHolder::Agreement(agreement.agreement);
    agreement.household.map_or(alone, TierHolder::Household)
}

/// The service period cut where the rate version changes, as the newer version's text says
/// (`price_change`): by days, all of it at the older or at the newer price, or not at all.
fn parts<'a, 'b>(
    agreement: &'b AgreementInput<'a>,
) -> Result<Vec<(Period, &'b TariffVersion<'a>)>, OutsortReason> {
    let service = agreement.service;
    let mut parts: Vec<(Period, &TariffVersion<'_>)> = Vec::with_capacity(1);
    let mut day = service.from();
    while day < service.until() {
        let missing = OutsortReason::MissingTariff { agreement: agreement.agreement, day };
        let version = agreement
            .versions
            .iter()
            .find(|version| version.from <= day && version.until.is_none_or(|until| day < until))
            .ok_or(missing.clone())?;
        let until = version.until.map_or(service.until(), |until| until.min(service.until()));
        let part = Period::new(day, until).map_err(|_| missing)?;
        parts.push((part, version));
        day = until;
    }
    let (Some((_, oldest)), Some((newest_part, newest))) =
        (parts.first().copied(), parts.last().copied())
    else {
        return Ok(parts);
    };
    if parts.len() == 1 {
        return Ok(parts);
    }
    match newest.schedule.price_change() {
        PriceChange::ByDays => Ok(parts),
        PriceChange::VersionAtStart => Ok(vec![(service, oldest)]),
        PriceChange::VersionAtEnd => Ok(vec![(service, newest)]),
        PriceChange::Refuse => Err(OutsortReason::Rating {
            agreement: agreement.agreement,
            source: RatingError::PriceChangeInside {
                schedule: newest.schedule.name().to_owned(),
                on: newest_part.from(),
                service,
            },
        }),
    }
}
