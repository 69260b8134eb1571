//! The utility as a registry file.
//!
//! In: the utility. Out: what `tidemark` imports: accounts, meters with their keys, tariffs.
//! Never here: litres after the first read.

use crate::utility::{
    Account, CALIBRES, Class, Meter, REGISTER_DIGITS, UTC_OFFSET_MINUTES, Utility, Way,
};
use chrono::NaiveDate;
use model::{Commodity, DeviceKey, Unit};
use rust_decimal::Decimal;
use store_postgres::{
    AccountEntry, AgreementEntry, BookEntry, CustomerEntry, CycleEntry, HexAddress, HexKey,
    HouseholdEntry, InstalledMeterEntry, LorawanEntry, MeterModelEntry, OrganisationEntry,
    PersonsEntry, RegisteredMeter, RegistryFile, ScheduleEntry, ScheduleVersionEntry,
    ServicePointEntry,
};

const ORGANISATION: &str = "JM";
const HOUSEHOLD_SCHEDULE: &str = "jingmen-household-2011";
const BUSINESS_SCHEDULE: &str = "two-part-calibre-demo";

/// The books' codes.
pub(crate) const BOOKS: [(&str, &str); 2] = [("B1", "North bank"), ("B2", "South bank")];

/// The registry of the utility, schedules with their text included.
#[must_use]
pub fn registry_file(utility: &Utility) -> RegistryFile {
    let [first, second, end] = utility.months.bounds();
    // Everybody moved in a year before the story begins.
    let since = utility.months.days_before(365);
    RegistryFile {
        organisations: vec![OrganisationEntry {
            code: ORGANISATION.to_owned(),
            name: "Jingmen Water (simulated)".to_owned(),
            utc_offset_minutes: i16::try_from(UTC_OFFSET_MINUTES).unwrap_or_default(),
        }],
        schedules: vec![
            schedule(
                HOUSEHOLD_SCHEDULE,
                "Household water, tiered",
                "2011-03-01",
                include_str!("../../deploy/schedules/jingmen-household-2011.toml"),
            ),
            schedule(
                BUSINESS_SCHEDULE,
                "Two-part water by meter calibre",
                "2020-01-01",
                include_str!("../../deploy/schedules/two-part-calibre-demo.toml"),
            ),
        ],
        books: BOOKS
            .iter()
            .map(|(code, name)| BookEntry {
                code: (*code).to_owned(),
                organisation: ORGANISATION.to_owned(),
                name: (*name).to_owned(),
                read_day: 1,
                cycles: vec![cycle(first, second), cycle(second, end)],
            })
            .collect(),
        customers: each(utility, |account| CustomerEntry {
            number: account.number.replace('A', "C"),
            name: format!("Customer of {}", account.number),
        }),
        accounts: each(utility, |account| AccountEntry {
            number: account.number.clone(),
            customer: account.number.replace('A', "C"),
            book: BOOKS.get(account.book).map_or_else(String::new, |(code, _)| (*code).to_owned()),
        }),
        households: utility
            .accounts
            .iter()
            .filter_map(|account| household(account, since))
            .collect(),
        service_points: each(utility, |account| ServicePointEntry {
            code: account.service_point.clone(),
            commodity: Commodity::Water,
            address: format!("{} Bank Street", account.number),
        }),
        meter_models: meter_models(),
        meters: utility.meters.iter().map(registered).collect(),
        installed_meters: utility
            .meters
            .iter()
            .map(|meter| installed(utility, meter, since))
            .collect(),
        agreements: each(utility, |account| AgreementEntry {
            account: account.number.clone(),
            service_point: account.service_point.clone(),
            household: household(account, since).map(|household| household.code),
            schedule: match account.class {
                Class::Household { .. } => HOUSEHOLD_SCHEDULE.to_owned(),
                Class::Business => BUSINESS_SCHEDULE.to_owned(),
            },
            class: match account.class {
                Class::Household { .. } => "household".to_owned(),
                Class::Business => "non_household".to_owned(),
            },
            from: since,
            until: None,
        }),
    }
}

fn each<T>(utility: &Utility, entry: impl Fn(&Account) -> T) -> Vec<T> {
    utility.accounts.iter().map(entry).collect()
}

fn schedule(code: &str, name: &str, from: &str, text: &str) -> ScheduleEntry {
    ScheduleEntry {
        code: code.to_owned(),
        organisation: ORGANISATION.to_owned(),
        name: name.to_owned(),
        commodity: Commodity::Water,
        versions: vec![ScheduleVersionEntry {
            from: from.parse().unwrap_or_default(),
            until: None,
            document: "simulated, approved by nobody".to_owned(),
            text: Some(text.to_owned()),
            file: None,
        }],
    }
}

/// A cycle is named after its month.
pub(crate) fn cycle_name(from: NaiveDate) -> String {
    from.format("%Y-%m").to_string()
}

fn cycle(from: NaiveDate, until: NaiveDate) -> CycleEntry {
    CycleEntry { name: cycle_name(from), from, until }
}

fn household(account: &Account, since: NaiveDate) -> Option<HouseholdEntry> {
    match account.class {
        Class::Household { persons } => Some(HouseholdEntry {
            code: account.number.replace('A', "H"),
            persons: vec![PersonsEntry { from: since, until: None, persons }],
        }),
        Class::Business => None,
    }
}

fn model_code(way: Way, calibre_mm: u16) -> String {
    format!("{}-{calibre_mm}", if way.is_native() { "TIDE" } else { "CJ" })
}

fn meter_models() -> Vec<MeterModelEntry> {
    let kinds = [(Way::CoapNative, "native"), (Way::CoapCjt188, "cjt188-2004")];
    kinds
        .into_iter()
        .flat_map(|(way, profile)| {
            CALIBRES.iter().map(move |(calibre_mm, hourly_max)| MeterModelEntry {
                code: model_code(way, *calibre_mm),
                profile: profile.to_owned(),
                register_digits: REGISTER_DIGITS,
                register_exponent: way.exponent(),
                register_unit: Unit::CubicMetre,
                calibre_mm: Some(*calibre_mm),
                hourly_max: hourly_max.parse().unwrap_or_default(),
                pulse_weight: None,
            })
        })
        .collect()
}

fn registered(meter: &Meter) -> RegisteredMeter {
    let own = if meter.way.is_native() {
        DeviceKey::Serial(meter.serial())
    } else {
        DeviceKey::Cjt188(meter.cjt188_address())
    };
    let network = if meter.way.is_coap() {
        DeviceKey::Imei(meter.imei())
    } else {
        DeviceKey::DevEui(meter.dev_eui())
    };
    let raw = matches!(meter.way, Way::RawNative | Way::RawCjt188);
    let sealed = matches!(meter.way, Way::CoapNative | Way::ChirpStackNative);
    RegisteredMeter {
        number: meter.number.clone(),
        model: model_code(meter.way, meter.calibre_mm),
        devices: vec![own, network],
        key: sealed.then(|| HexKey::new(meter.key)),
        lorawan: raw.then(|| LorawanEntry {
            dev_addr: HexAddress(meter.dev_addr()),
            nwk_s_key: HexKey::new(meter.nwk_s_key),
            app_s_key: HexKey::new(meter.app_s_key),
        }),
    }
}

fn installed(utility: &Utility, meter: &Meter, since: NaiveDate) -> InstalledMeterEntry {
    let months = utility.months;
    let count = |hour| meter.count_at(hour).and_then(|count| i64::try_from(count).ok());
    let removed = meter.last < utility.end();
    let place = utility.accounts.get(meter.account);
    InstalledMeterEntry {
        meter: meter.number.clone(),
        service_point: place.map_or_else(String::new, |account| account.service_point.clone()),
        from: if meter.from > 0 {
            months.instant(meter.from)
        } else {
            since.and_time(chrono::NaiveTime::MIN).and_utc()
        },
        until: removed.then(|| months.instant(meter.last)),
        multiplier: Decimal::ONE,
        // The old ones were put in long ago, at zero.
        opening_count: if meter.from > 0 { count(meter.from).unwrap_or(0) } else { 0 },
        closing_count: removed.then(|| count(meter.last)).flatten(),
    }
}
