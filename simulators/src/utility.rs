//! The utility: who takes water where, through which meter, and how much in every hour.
//!
//! In: a seed and two months. Out: accounts and meters with their litres.
//! Never here: frames, the registry file's form, prices.

use crate::chance::Chance;
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};

/// Local time of the utility against UTC (China).
pub(crate) const UTC_OFFSET_MINUTES: i64 = 480;

/// Accounts of the utility.
const ACCOUNTS: u32 = 200;

/// Litres an hour takes of a household's day, in thousandths.
const HOUSEHOLD_DAY: [u64; 24] =
    [6, 4, 3, 3, 5, 20, 65, 90, 60, 35, 30, 45, 60, 40, 25, 25, 35, 60, 95, 105, 80, 60, 35, 14];

/// The same of a shop or an office.
const BUSINESS_DAY: [u64; 24] =
    [4, 4, 4, 4, 4, 10, 25, 50, 80, 95, 95, 90, 70, 75, 90, 85, 80, 60, 35, 20, 10, 4, 3, 3];

/// Two whole months in a row, each one cycle of every book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Months {
    first: NaiveDate,
}

/// A text that names no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a month: want 2026-09, not before 2021")]
pub struct MonthsError(String);

impl std::str::FromStr for Months {
    type Err = MonthsError;
    fn from_str(text: &str) -> Result<Self, MonthsError> {
        let first = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok();
        first
            .filter(|first| (2021..=9998).contains(&first.year()))
            .map(|first| Self { first })
            .ok_or_else(|| MonthsError(text.to_owned()))
    }
}

impl Months {
    /// The first day of the first month, of the second, and the day after the last one.
    #[must_use]
    pub fn bounds(&self) -> [NaiveDate; 3] {
        let next = |day: NaiveDate| day.checked_add_months(chrono::Months::new(1)).unwrap_or(day);
        [self.first, next(self.first), next(next(self.first))]
    }

    /// The same days as hours since the first, 0 included.
    #[must_use]
    pub fn bound_hours(&self) -> [u32; 3] {
        self.bounds().map(|day| {
            let days = (day - self.first).num_days();
            u32::try_from(days * 24).unwrap_or(u32::MAX)
        })
    }

    /// The instant of an hour since local midnight of the first day.
    #[must_use]
    pub fn instant(&self, hour: u32) -> DateTime<Utc> {
        self.second(i64::from(hour) * 3600)
    }

    pub(crate) fn second(&self, second: i64) -> DateTime<Utc> {
        let midnight = self.first.and_time(chrono::NaiveTime::MIN).and_utc();
        midnight - TimeDelta::minutes(UTC_OFFSET_MINUTES) + TimeDelta::seconds(second)
    }

    /// The day before the first by this many.
    pub(crate) fn days_before(&self, days: u64) -> NaiveDate {
        self.first.checked_sub_days(Days::new(days)).unwrap_or(self.first)
    }
}

/// How a meter's reads reach the utility.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// NB-IoT, CoAP: one sealed native frame a day with its 24 hourly reads.
    CoapNative,
    /// NB-IoT, CoAP: one CJ/T 188 frame an hour.
    CoapCjt188,
    /// LoRaWAN through ChirpStack: a sealed native frame with two reads every two hours.
    ChirpStackNative,
    /// LoRaWAN, the gateway's raw frame: a clear native frame with two reads every two hours.
    RawNative,
    /// LoRaWAN, the gateway's raw frame: one CJ/T 188 frame an hour.
    RawCjt188,
}

impl Way {
    pub(crate) const ALL: [Way; 5] = [
        Self::CoapNative,
        Self::CoapCjt188,
        Self::ChirpStackNative,
        Self::RawNative,
        Self::RawCjt188,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CoapNative => "coap_native",
            Self::CoapCjt188 => "coap_cjt188",
            Self::ChirpStackNative => "chirpstack_native",
            Self::RawNative => "raw_native",
            Self::RawCjt188 => "raw_cjt188",
        }
    }

    pub(crate) const fn is_coap(self) -> bool {
        matches!(self, Self::CoapNative | Self::CoapCjt188)
    }

    pub(crate) const fn is_native(self) -> bool {
        matches!(self, Self::CoapNative | Self::ChirpStackNative | Self::RawNative)
    }

    /// Hourly reads in one frame.
    pub(crate) const fn reads_per_frame(self) -> u32 {
        match self {
            Self::CoapNative => 24,
            Self::ChirpStackNative | Self::RawNative => 2,
            Self::CoapCjt188 | Self::RawCjt188 => 1,
        }
    }

    /// Power of ten of the register's last digit, in m3.
    pub(crate) const fn exponent(self) -> i8 {
        if self.is_native() { -3 } else { -2 }
    }

    const fn litres_per_count(self) -> u64 {
        if self.is_native() { 1 } else { 10 }
    }
}

/// Digits of every register here.
pub(crate) const REGISTER_DIGITS: u8 = 8;

/// Counts after which every register here begins again.
const REGISTER_WRAPS_AT: u64 = 100_000_000;

/// Nominal calibres with the most they pass in an hour (Q4), m3.
pub(crate) const CALIBRES: [(u16, &str); 7] = [
    (15, "3.125"),
    (20, "5"),
    (25, "7.875"),
    (40, "20"),
    (50, "31.25"),
    (80, "78.75"),
    (100, "125"),
];

/// Who an account is to the tariff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Household { persons: u16 },
    Business,
}

/// An account with its service point.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) number: String,
    pub(crate) service_point: String,
    pub(crate) book: usize,
    pub(crate) class: Class,
    pub(crate) calibre_mm: u16,
}

/// A meter with its names, keys and litres.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) number: String,
    /// Position among all meters; names and keys follow from it.
    pub(crate) index: u32,
    /// Position of its account.
    pub(crate) account: usize,
    pub(crate) way: Way,
    pub(crate) calibre_mm: u16,
    /// The first hour it reads.
    pub(crate) from: u32,
    /// The last hour it reads.
    pub(crate) last: u32,
    pub(crate) key: [u8; 16],
    pub(crate) nwk_s_key: [u8; 16],
    pub(crate) app_s_key: [u8; 16],
    /// The counter of its first frame.
    pub(crate) first_counter: u32,
    /// What it had passed at each hour from `from` on, in litres.
    litres: Vec<u64>,
}

impl Meter {
    /// What the register shows at an hour the meter is installed.
    pub(crate) fn count_at(&self, hour: u32) -> Option<u64> {
        let at = usize::try_from(hour.checked_sub(self.from)?).ok()?;
        self.litres.get(at).map(|litres| litres / self.way.litres_per_count() % REGISTER_WRAPS_AT)
    }

    /// Counts from one hour to a later one, over the register's end where it lies between.
    pub(crate) fn usage_counts(&self, from: u32, to: u32) -> Option<u64> {
        let (from, to) = (self.count_at(from)?, self.count_at(to)?);
        Some((to + REGISTER_WRAPS_AT - from) % REGISTER_WRAPS_AT)
    }

    pub(crate) fn rolls_over(&self) -> bool {
        let count = |litres: &u64| litres / self.way.litres_per_count();
        let ends = (self.litres.first().map(count), self.litres.last().map(count));
        matches!(ends, (Some(first), Some(last)) if first / REGISTER_WRAPS_AT != last / REGISTER_WRAPS_AT)
    }

    /// Frames it sends in its time: one with its first read alone, then full ones.
    pub(crate) fn frames(&self) -> u32 {
        (self.last - self.from).div_ceil(self.way.reads_per_frame()) + 1
    }

    /// The hours of frame `n`: first and last, both inside.
    pub(crate) fn frame_hours(&self, n: u32) -> (u32, u32) {
        let width = self.way.reads_per_frame();
        match n.checked_sub(1) {
            None => (self.from, self.from),
            Some(before) => {
                let first = self.from + before * width + 1;
                (first, (first + width - 1).min(self.last))
            }
        }
    }

    /// The same meter under names nobody registered.
    pub(crate) fn stranger(&self) -> Self {
        Self { index: self.index + 500_000, ..self.clone() }
    }

    pub(crate) fn serial(&self) -> u64 {
        730_000_000 + u64::from(self.index)
    }

    /// Maker 1203, then ten digits.
    pub(crate) fn cjt188_address(&self) -> u64 {
        12_030_026_000_000 + u64::from(self.index)
    }

    pub(crate) fn imei(&self) -> u64 {
        867_512_080_000_000 + u64::from(self.index)
    }

    pub(crate) fn dev_eui(&self) -> u64 {
        0x70B3_D57E_D000_0000 + u64::from(self.index)
    }

    pub(crate) fn dev_addr(&self) -> u32 {
        0x2600_0000 + self.index
    }
}

/// A meter replaced by another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swap {
    pub(crate) account: usize,
    pub(crate) old: usize,
    pub(crate) new: usize,
    pub(crate) hour: u32,
}

/// The utility with all its litres.
#[derive(Debug, Clone)]
pub struct Utility {
    /// Everything follows from it.
    pub seed: u64,
    /// The two cycles.
    pub months: Months,
    pub(crate) accounts: Vec<Account>,
    pub(crate) meters: Vec<Meter>,
    pub(crate) swap: Swap,
}

impl Utility {
    /// The utility of this seed in these months.
    #[must_use]
    pub fn new(seed: u64, months: Months) -> Self {
        let [_, second, end] = months.bound_hours();
        // In the second month, on the fourteenth at ten in the morning.
        let swap = Swap { account: 64, old: 64, new: 200, hour: second + 13 * 24 + 10 };
        let accounts: Vec<Account> = (0..ACCOUNTS).map(|index| account(seed, index)).collect();
        let mut meters = Vec::new();
        let mut replacement = None;
        for (index, (place, account)) in (0..).zip(accounts.iter().enumerate()) {
            let flow = hourly_litres(seed, index, account, months, end);
            let swapped = place == swap.account;
            let last = if swapped { swap.hour } else { end };
            let (way, opening) = (way(index), opening_litres(seed, index, way(index)));
            let calibre_mm = account.calibre_mm;
            let meter = |index, way, hours, opening| {
                meter(seed, Built { index, account: place, way, calibre_mm, hours, opening }, &flow)
            };
            meters.push(meter(index, way, (0, last), opening));
            if swapped {
                // New from the box, it shows what the test bench left on it.
                replacement = Some(meter(ACCOUNTS, Way::ChirpStackNative, (last, end), 37));
            }
        }
        meters.extend(replacement);
        Self { seed, months, accounts, meters, swap }
    }

    /// The last hour there is a read of.
    pub(crate) fn end(&self) -> u32 {
        let [_, _, end] = self.months.bound_hours();
        end
    }
}

fn way(index: u32) -> Way {
    match index {
        0..60 => Way::CoapNative,
        60..100 => Way::CoapCjt188,
        100..150 => Way::ChirpStackNative,
        150..175 => Way::RawNative,
        _ => Way::RawCjt188,
    }
}

fn account(seed: u64, index: u32) -> Account {
    let mut chance = Chance::of(seed, &[1, u64::from(index)]);
    let business = index % 5 == 4;
    let calibre =
        if business { CALIBRES.get(usize::try_from(index / 5 % 7).unwrap_or(0)) } else { None };
    let persons = u16::try_from(chance.between(1, 7)).unwrap_or(1);
    Account {
        number: format!("A{:04}", index + 1),
        service_point: format!("S{:04}", index + 1),
        book: usize::from(index % 2 == 1),
        class: if business { Class::Business } else { Class::Household { persons } },
        calibre_mm: calibre.map_or(15, |(mm, _)| *mm),
    }
}

/// What the register had passed when the story begins.
fn opening_litres(seed: u64, index: u32, way: Way) -> u64 {
    let wraps = REGISTER_WRAPS_AT * way.litres_per_count();
    match index {
        // These two pass their last digit in the first month.
        3 | 181 => wraps - 4_321,
        _ => Chance::of(seed, &[2, u64::from(index)]).between(1_000, 4_000_000),
    }
}

/// Litres of every hour, the first of them being the hour before hour 1.
fn hourly_litres(seed: u64, index: u32, account: &Account, months: Months, end: u32) -> Vec<u64> {
    let mut chance = Chance::of(seed, &[3, u64::from(index)]);
    let (daily, day) = match account.class {
        // Nobody home for two months.
        _ if index == 7 || index == 9 => (0, &HOUSEHOLD_DAY),
        Class::Household { persons } => {
            (u64::from(persons) * chance.between(60, 240), &HOUSEHOLD_DAY)
        }
        Class::Business => {
            let litres = match account.calibre_mm {
                0..=15 => 600,
                16..=20 => 1_500,
                21..=25 => 3_000,
                26..=40 => 9_000,
                41..=50 => 20_000,
                51..=80 => 50_000,
                _ => 100_000,
            };
            (litres, &BUSINESS_DAY)
        }
    };
    let weekend_rest = matches!(account.class, Class::Business);
    (0..end)
        .map(|hour| {
            let local = months.bounds().first().map(|day| *day + Days::new(u64::from(hour / 24)));
            let weekend = local.is_some_and(|day| day.weekday().number_from_monday() > 5);
            let share = day.iter().cycle().nth(usize::try_from(hour % 24).unwrap_or(0));
            let usual = daily * share.copied().unwrap_or(0) / 1000;
            let usual = if weekend_rest && weekend { usual / 5 } else { usual };
            usual * chance.between(40, 160) / 100
        })
        .collect()
}

/// What a meter is put together from.
struct Built {
    index: u32,
    account: usize,
    way: Way,
    calibre_mm: u16,
    /// The first and the last hour it reads.
    hours: (u32, u32),
    opening: u64,
}

fn meter(seed: u64, built: Built, flow: &[u64]) -> Meter {
    let Built { index, account, way, calibre_mm, hours: (from, last), opening } = built;
    let mut chance = Chance::of(seed, &[4, u64::from(index)]);
    let hours = usize::try_from(last - from).unwrap_or(0);
    let passed = flow.iter().skip(usize::try_from(from).unwrap_or(0)).take(hours);
    let litres = std::iter::once(opening)
        .chain(passed.scan(opening, |total, litres| {
            *total += litres;
            Some(*total)
        }))
        .collect();
    Meter {
        number: format!("M{:05}", index + 1),
        index,
        account,
        way,
        calibre_mm,
        from,
        last,
        key: chance.key(),
        nwk_s_key: chance.key(),
        app_s_key: chance.key(),
        // Some pass the sixteenth bit on the way.
        first_counter: if index % 3 == 0 { 65_100 } else { 1 },
        litres,
    }
}
