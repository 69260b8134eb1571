//! One rating: rules times determinants.
//!
//! In: a rate version, a rating input that lies inside it. Out: charge lines, each rounded once by
//! the schedule's rule, their sum, the use to append to the tier ledger.
//! Never here: the choice of a version, the words of the file, text (workings render later).

mod derived;
mod standing;
mod usage;

use crate::{
    ChargeLine, Clause, Proration, Rated, RatingError, RatingInput, Version, WindowUse,
    rate::{PARTED, adds_up_over_time, overflow, schedule_item},
    rules::{Item, Rule, When},
};
use chrono::{Datelike, Months, NaiveDate};
use model::{DeterminantKind, Money, MoneyError, Period, Price, Quantity, Rounding, Unit};
use rust_decimal::Decimal;

const TIMES_OF_USE: [DeterminantKind; 5] = [
    DeterminantKind::UsageSharp,
    DeterminantKind::UsagePeak,
    DeterminantKind::UsageFlat,
    DeterminantKind::UsageValley,
    DeterminantKind::UsageDeepValley,
];

/// One rating under way.
pub(crate) struct Job<'a> {
    version: &'a Version,
    input: &'a RatingInput,
    /// The share of the bill this is, where a price change parts it.
    bill_share: Proration,
    lines: Vec<ChargeLine>,
    tier_usage: Vec<WindowUse>,
}

/// What a line is made of, before rounding.
struct Priced {
    clause: Clause,
    tier: Option<u8>,
    quantity: Quantity,
    price: Decimal,
    proration: Proration,
    service: Period,
}

impl<'a> Job<'a> {
    pub(crate) fn new(version: &'a Version, input: &'a RatingInput, bill_share: Proration) -> Self {
        let lines = Vec::with_capacity(version.items.len() * 2);
        Self { version, input, bill_share, lines, tier_usage: Vec::new() }
    }

    pub(crate) fn run(mut self) -> Result<Rated, RatingError> {
        let version = self.version;
        for item in &version.items {
            if !self.holds(item, &item.when)? {
                continue;
            }
            let first_line = self.lines.len();
            match &item.rule {
                Rule::Usage(rule) => self.usage(item, rule)?,
                Rule::TimeOfUse(rule) => self.time_of_use(item, rule)?,
                Rule::Standing(rule) => self.standing(item, rule)?,
                Rule::MixedUse(rule) => self.mixed_use(item, rule)?,
                Rule::Percentage(rule) => self.percentage(item, rule)?,
                Rule::PowerFactor(rule) => self.power_factor(item, rule)?,
                Rule::Minimum { amount, of, per } => self.minimum(item, *amount, of, *per)?,
            }
            if item.rounded_once {
                self.round_once(item, item.rounding, first_line)?;
            }
        }
        if let Some(rounding) = version.total_rounding {
            // Agency money is somebody else's: the difference is the utility's own.
            let own = version.items.iter().find(|item| !item.facts.agency);
            if let Some(item) = own.or(version.items.first()) {
                self.round_once(item, rounding, 0)?;
            }
        }
        let total = Money::checked_sum(self.lines.iter().map(|line| line.amount))
            .map_err(|source| overflow(&schedule_item(version), source))?;
        Ok(Rated { lines: self.lines, total, tier_usage: self.tier_usage })
    }

    /// The determinant, in the schedule's unit.
    fn find(&self, item: &Item, kind: DeterminantKind) -> Result<Option<Decimal>, RatingError> {
        let given = self.input.determinants.get(kind).or_else(|| self.version.assume.get(kind));
        let Some(quantity) = given else { return Ok(None) };
        let expected = self.version.unit_of(kind);
        let named = || item.facts.id.clone();
        if quantity.unit != expected {
            let found = quantity.unit;
            return Err(RatingError::UnitMismatch { item: named(), kind, expected, found });
        }
        if quantity.value.is_sign_negative()
            && !adds_up_over_time(kind)
            && !quantity.value.is_zero()
        {
            let found = quantity.value;
            return Err(RatingError::AbsurdDeterminant { item: named(), kind, found });
        }
        Ok(Some(quantity.value))
    }

    fn need(&self, item: &Item, kind: DeterminantKind) -> Result<Decimal, RatingError> {
        if let Some(value) = self.find(item, kind)? {
            return Ok(value);
        }
        let derived = match kind {
            DeterminantKind::Usage => self.sum_of_times(item)?,
            DeterminantKind::UsageFlat => {
                // 平 is what the total leaves when the other times have their own registers.
                match self.find(item, DeterminantKind::Usage)? {
                    Some(usage) => {
                        let sum = self.sum_of_times(item)?.unwrap_or_default();
                        let flat = self.fits(item, usage.checked_sub(sum))?;
                        if flat.is_sign_negative() && !usage.is_sign_negative() {
                            let item = item.facts.id.clone();
                            return Err(RatingError::TimesOfUseDoNotAddUp { item, sum, usage });
                        }
                        Some(flat)
                    }
                    None => None,
                }
            }
            DeterminantKind::UsageSharp
            | DeterminantKind::UsagePeak
            | DeterminantKind::UsageValley
            | DeterminantKind::UsageDeepValley
            | DeterminantKind::ReactiveUsage
            | DeterminantKind::ReactiveReverse
            | DeterminantKind::MaximumDemand
            | DeterminantKind::ContractedCapacity
            | DeterminantKind::MeterCalibre
            | DeterminantKind::Persons
            | DeterminantKind::PlannedPerPerson
            | DeterminantKind::PreviousAverage
            | DeterminantKind::Quota
            | DeterminantKind::Dwellings
            | DeterminantKind::Meters
            | DeterminantKind::UsageOutsideTiers => None,
        };
        derived.ok_or_else(|| RatingError::MissingDeterminant { item: item.facts.id.clone(), kind })
    }

    /// The sum of the times of use that are given; `None` when none is.
    fn sum_of_times(&self, item: &Item) -> Result<Option<Decimal>, RatingError> {
        TIMES_OF_USE.iter().try_fold(None, |sum: Option<Decimal>, kind| {
            Ok(match (sum, self.find(item, *kind)?) {
                (sum, None) => sum,
                (None, Some(value)) => Some(value),
                (Some(sum), Some(value)) => Some(self.fits(item, sum.checked_add(value))?),
            })
        })
    }

    fn fits(&self, item: &Item, number: Option<Decimal>) -> Result<Decimal, RatingError> {
        number.ok_or_else(|| overflow(&item.facts.id, MoneyError::Overflow))
    }

    /// `number × share of the bill`.
    fn of_bill(&self, item: &Item, number: Decimal) -> Result<Decimal, RatingError> {
        if self.bill_share.is_whole() {
            return Ok(number);
        }
        let (numerator, denominator) = (self.bill_share.numerator, self.bill_share.denominator);
        let product = number.checked_mul(Decimal::from(numerator));
        let share = product.and_then(|all| all.checked_div(Decimal::from(denominator.get())));
        Ok(PARTED.apply_decimal(self.fits(item, share)?))
    }

    fn holds(&self, item: &Item, when: &When) -> Result<bool, RatingError> {
        if when.is_always() {
            return Ok(true);
        }
        let has = |class: &String| self.input.classes.contains(class);
        if !when.class.is_empty() && !when.class.iter().any(has) {
            return Ok(false);
        }
        if when.unless_class.iter().any(has) {
            return Ok(false);
        }
        if when.persons_from.is_some() || when.persons_until.is_some() {
            let persons = self.need(item, DeterminantKind::Persons)?;
            if when.persons_from.is_some_and(|from| persons < from)
                || when.persons_until.is_some_and(|until| persons >= until)
            {
                return Ok(false);
            }
        }
        if !when.calibre.is_empty()
            && !when.calibre.contains(&self.need(item, DeterminantKind::MeterCalibre)?)
        {
            return Ok(false);
        }
        self.in_season(item, &when.months)
    }

    /// Whether all days are in these months; a period partly in the season is refused.
    fn in_season(&self, item: &Item, months: &[u32]) -> Result<bool, RatingError> {
        if months.is_empty() {
            return Ok(true);
        }
        let service = self.input.service;
        let inside = |day: NaiveDate| months.contains(&day.month());
        let first = inside(service.from());
        let mut day = service.from();
        // At most twelve first days of months tell all there is to tell.
        for _ in 0..12 {
            let next = day.with_day(1).and_then(|day| day.checked_add_months(Months::new(1)));
            let Some(next) = next.filter(|next| *next < service.until()) else { break };
            if inside(next) != first {
                let item = item.facts.id.clone();
                return Err(RatingError::SeasonInside { item, service });
            }
            day = next;
        }
        Ok(first)
    }

    /// Prices, rounds and appends one line.
    fn push(&mut self, item: &Item, priced: Priced) -> Result<(), RatingError> {
        let Priced { clause, tier, quantity, price, proration, service } = priced;
        let mut exact = self.fits(item, quantity.value.checked_mul(price))?;
        if !proration.is_whole() {
            let periods = exact.checked_mul(Decimal::from(proration.numerator));
            let share =
                periods.and_then(|all| all.checked_div(Decimal::from(proration.denominator.get())));
            exact = self.fits(item, share)?;
        }
        let exact = Money::yuan(exact);
        self.lines.push(ChargeLine {
            item: item.facts.clone(),
            clause,
            quantity,
            price: Price::new(price, quantity.unit),
            proration,
            exact,
            amount: item.rounding.apply(exact),
            tier,
            service,
            version_from: self.version.valid_from,
        });
        Ok(())
    }

    fn plain(&self, clause: Clause, quantity: Quantity, price: Decimal) -> Priced {
        let service = self.input.service;
        Priced { clause, tier: None, quantity, price, proration: Proration::WHOLE, service }
    }

    /// Adds the line that makes rounded lines add up to their exact sum rounded once.
    fn round_once(
        &mut self,
        item: &Item,
        rounding: Rounding,
        first_line: usize,
    ) -> Result<(), RatingError> {
        let named = |source| overflow(&item.facts.id, source);
        let lines = self.lines.get(first_line..).unwrap_or_default();
        let exact = Money::checked_sum(lines.iter().map(|line| line.exact)).map_err(named)?;
        let rounded = Money::checked_sum(lines.iter().map(|line| line.amount)).map_err(named)?;
        let difference = rounding.apply(exact).checked_sub(rounded).map_err(named)?.as_decimal();
        if difference.is_zero() {
            return Ok(());
        }
        let one = Quantity::new(Decimal::ONE, Unit::One);
        let line = self.plain(Clause::RoundingDifference, one, difference);
        self.push(item, line)
    }
}
