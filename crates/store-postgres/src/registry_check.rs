//! What a registry file must get right before the database is asked.
//!
//! In: a registry file. Out: nothing, or the first entry that contradicts itself or another.
//! Never here: references to what is already imported (see `import`), SQL.

use crate::RegistryFile;
use chrono::{DateTime, NaiveDate, Utc};
use std::{collections::HashMap, fmt, hash::Hash};

/// A section of the registry file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `organisations`
    Organisations,
    /// `schedules`
    Schedules,
    /// `schedules.versions`
    ScheduleVersions,
    /// `books`
    Books,
    /// `books.cycles`
    Cycles,
    /// `customers`
    Customers,
    /// `households`
    Households,
    /// `households.persons`
    Persons,
    /// `accounts`
    Accounts,
    /// `service_points`
    ServicePoints,
    /// `meter_models`
    MeterModels,
    /// `meters`
    Meters,
    /// `meters.devices`
    Devices,
    /// `meters.key` and `meters.lorawan`
    Keys,
    /// `installed_meters`
    InstalledMeters,
    /// `agreements`
    Agreements,
}

impl Section {
    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Organisations => "organisations",
            Self::Schedules => "schedules",
            Self::ScheduleVersions => "schedules.versions",
            Self::Books => "books",
            Self::Cycles => "books.cycles",
            Self::Customers => "customers",
            Self::Households => "households",
            Self::Persons => "households.persons",
            Self::Accounts => "accounts",
            Self::ServicePoints => "service_points",
            Self::MeterModels => "meter_models",
            Self::Meters => "meters",
            Self::Devices => "meters.devices",
            Self::Keys => "meters.key",
            Self::InstalledMeters => "installed_meters",
            Self::Agreements => "agreements",
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Two entries have the same code, number or start.
    #[error("stands in the file twice")]
    Twice,
    /// A text is empty or too long.
    #[error("{field} must have {min} to {max} characters, it has {has}")]
    Length {
        /// Which field.
        field: &'static str,
        /// Characters it must have.
        min: usize,
        /// Characters it may have.
        max: usize,
        /// Characters it has.
        has: usize,
    },
    /// A text holds a character that cannot be stored.
    #[error("{field} holds a NUL character")]
    Nul {
        /// Which field.
        field: &'static str,
    },
    /// A number is outside its range.
    #[error("{field} must be {want}, it is {is}")]
    Range {
        /// Which field.
        field: &'static str,
        /// The range, in words.
        want: &'static str,
        /// What it is.
        is: String,
    },
    /// `until` is not after `from`.
    #[error("must end after it starts: {from} .. {until}")]
    Period {
        /// The start.
        from: String,
        /// The end.
        until: String,
    },
    /// Two periods of one thing overlap.
    #[error("overlaps with {other}")]
    Overlap {
        /// The other one, by its start.
        other: String,
    },
    /// It refers to something neither this file nor an earlier one brought.
    #[error("{what} {code:?} is unknown")]
    Unknown {
        /// What it refers to: `book`.
        what: &'static str,
        /// The code in the entry.
        code: String,
    },
    /// A schedule version without its text.
    #[error("has no text: give text or file, and read the registry file from disk")]
    NoText,
    /// The database holds an active version with another text, document or end.
    #[error("is active with other content and cannot be changed: add a new version")]
    ActiveVersion,
    /// A device name that belongs to another meter.
    #[error("belongs to meter {meter:?} already")]
    DeviceTaken {
        /// Whose it is.
        meter: String,
    },
    /// The schedule prices one commodity, the service point delivers another.
    #[error(
        "schedule {schedule:?} prices another commodity than service point {service_point:?} delivers"
    )]
    Commodity {
        /// The schedule.
        schedule: String,
        /// The service point.
        service_point: String,
    },
    /// A closing count without an end.
    #[error("has a closing count but no end")]
    ClosingWithoutEnd,
    /// The cipher refused the key.
    #[error("the key cannot be sealed")]
    NotSealed,
}

/// An entry of a registry file that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{section} {entry:?}: {problem}")]
pub struct EntryError {
    /// In which section.
    pub section: Section,
    /// Which entry, by its code or number (and start).
    pub entry: String,
    /// What is wrong with it.
    pub problem: EntryProblem,
}

pub(crate) fn wrong(
    section: Section,
    entry: impl fmt::Display,
    problem: EntryProblem,
) -> EntryError {
    EntryError { section, entry: entry.to_string(), problem }
}

type Checked = Result<(), EntryError>;

fn text(
    section: Section,
    entry: &str,
    field: &'static str,
    value: &str,
    (min, max): (usize, usize),
) -> Checked {
    let has = value.chars().count();
    if has < min || has > max {
        return Err(wrong(section, entry, EntryProblem::Length { field, min, max, has }));
    }
    if value.contains('\0') {
        return Err(wrong(section, entry, EntryProblem::Nul { field }));
    }
    Ok(())
}

fn code(section: Section, value: &str) -> Checked {
    text(section, value, "code", value, (1, 64))
}

fn range<T: fmt::Display>(
    section: Section,
    entry: &str,
    field: &'static str,
    inside: bool,
    want: &'static str,
    is: T,
) -> Checked {
    if inside {
        Ok(())
    } else {
        Err(wrong(section, entry, EntryProblem::Range { field, want, is: is.to_string() }))
    }
}

fn once<K: Eq + Hash>(section: Section, keys: impl Iterator<Item = (K, String)>) -> Checked {
    let mut seen = std::collections::HashSet::new();
    for (key, entry) in keys {
        if !seen.insert(key) {
            return Err(wrong(section, entry, EntryProblem::Twice));
        }
    }
    Ok(())
}

/// A start that can be compared and printed: a day or an instant.
pub(crate) trait Bound: Copy + Ord + Send + Unpin {
    fn shown(self) -> String;
}

impl Bound for NaiveDate {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Bound for DateTime<Utc> {
    fn shown(self) -> String {
        self.to_rfc3339()
    }
}

/// Half-open periods per key: none empty, none overlapping.
fn periods<'a, B: Bound + 'a>(
    section: Section,
    all: impl Iterator<Item = (&'a str, B, Option<B>)>,
) -> Checked {
    let mut by_key: HashMap<&str, Vec<(B, Option<B>)>> = HashMap::new();
    for (key, from, until) in all {
        if let Some(until) = until.filter(|until| *until <= from) {
            let problem = EntryProblem::Period { from: from.shown(), until: until.shown() };
            return Err(wrong(section, key, problem));
        }
        by_key.entry(key).or_default().push((from, until));
    }
    for (key, mut list) in by_key {
        list.sort_by_key(|(from, _)| *from);
        for pair in list.windows(2) {
            if let [(first, end), (next, _)] = pair
                && end.is_none_or(|end| end > *next)
            {
                let entry = format!("{key} from {}", next.shown());
                let other = format!("the one from {}", first.shown());
                return Err(wrong(section, entry, EntryProblem::Overlap { other }));
            }
        }
    }
    Ok(())
}

/// Everything that can be told from the file alone.
pub(crate) fn check(file: &RegistryFile) -> Checked {
    for entry in &file.organisations {
        code(Section::Organisations, &entry.code)?;
        text(Section::Organisations, &entry.code, "name", &entry.name, (1, 200))?;
        range(
            Section::Organisations,
            &entry.code,
            "utc_offset_minutes",
            (-840..=840).contains(&entry.utc_offset_minutes),
            "-840 to 840",
            entry.utc_offset_minutes,
        )?;
    }
    once(Section::Organisations, file.organisations.iter().map(|e| (&e.code, e.code.clone())))?;
    schedules(file)?;
    books(file)?;
    people(file)?;
    meters(file)?;
    agreements(file)
}

fn schedules(file: &RegistryFile) -> Checked {
    for entry in &file.schedules {
        code(Section::Schedules, &entry.code)?;
        text(Section::Schedules, &entry.code, "name", &entry.name, (1, 200))?;
        for version in &entry.versions {
            let name = format!("{} from {}", entry.code, version.from);
            let section = Section::ScheduleVersions;
            text(section, &name, "document", &version.document, (1, 200))?;
            let content =
                version.text.as_ref().ok_or_else(|| wrong(section, &name, EntryProblem::NoText))?;
            text(section, &name, "text", content, (1, 1 << 20))?;
        }
    }
    once(Section::Schedules, file.schedules.iter().map(|e| (&e.code, e.code.clone())))?;
    periods(
        Section::ScheduleVersions,
        file.schedules
            .iter()
            .flat_map(|e| e.versions.iter().map(|v| (e.code.as_str(), v.from, v.until))),
    )
}

fn books(file: &RegistryFile) -> Checked {
    for entry in &file.books {
        code(Section::Books, &entry.code)?;
        text(Section::Books, &entry.code, "name", &entry.name, (1, 200))?;
        let inside = (1..=28).contains(&entry.read_day);
        range(Section::Books, &entry.code, "read_day", inside, "1 to 28", entry.read_day)?;
        for cycle in &entry.cycles {
            text(Section::Cycles, &entry.code, "name", &cycle.name, (1, 64))?;
        }
    }
    once(Section::Books, file.books.iter().map(|e| (&e.code, e.code.clone())))?;
    once(
        Section::Cycles,
        file.books.iter().flat_map(|book| {
            book.cycles
                .iter()
                .map(|cycle| ((&book.code, &cycle.name), format!("{} {}", book.code, cycle.name)))
        }),
    )?;
    periods(
        Section::Cycles,
        file.books
            .iter()
            .flat_map(|b| b.cycles.iter().map(|c| (b.code.as_str(), c.from, Some(c.until)))),
    )
}

fn people(file: &RegistryFile) -> Checked {
    for entry in &file.customers {
        text(Section::Customers, &entry.number, "number", &entry.number, (1, 64))?;
        text(Section::Customers, &entry.number, "name", &entry.name, (1, 200))?;
    }
    once(Section::Customers, file.customers.iter().map(|e| (&e.number, e.number.clone())))?;
    for entry in &file.households {
        code(Section::Households, &entry.code)?;
        for persons in &entry.persons {
            let inside = persons.persons <= 9_999;
            let want = "0 to 9999";
            range(Section::Persons, &entry.code, "persons", inside, want, persons.persons)?;
        }
    }
    once(Section::Households, file.households.iter().map(|e| (&e.code, e.code.clone())))?;
    periods(
        Section::Persons,
        file.households
            .iter()
            .flat_map(|h| h.persons.iter().map(|p| (h.code.as_str(), p.from, p.until))),
    )?;
    for entry in &file.accounts {
        text(Section::Accounts, &entry.number, "number", &entry.number, (1, 64))?;
    }
    once(Section::Accounts, file.accounts.iter().map(|e| (&e.number, e.number.clone())))
}

fn meters(file: &RegistryFile) -> Checked {
    for entry in &file.service_points {
        code(Section::ServicePoints, &entry.code)?;
        text(Section::ServicePoints, &entry.code, "address", &entry.address, (0, 500))?;
    }
    once(Section::ServicePoints, file.service_points.iter().map(|e| (&e.code, e.code.clone())))?;
    for entry in &file.meter_models {
        let section = Section::MeterModels;
        code(section, &entry.code)?;
        text(section, &entry.code, "profile", &entry.profile, (1, 64))?;
        let digits = entry.register_digits;
        let inside = (1..=18).contains(&digits);
        range(section, &entry.code, "register_digits", inside, "1 to 18", digits)?;
        let exponent = entry.register_exponent;
        let inside = (-9..=9).contains(&exponent);
        range(section, &entry.code, "register_exponent", inside, "-9 to 9", exponent)?;
        let above = |number: &rust_decimal::Decimal| *number > rust_decimal::Decimal::ZERO;
        let most = entry.hourly_max;
        range(section, &entry.code, "hourly_max", above(&most), "above 0", most)?;
        if let Some(weight) = entry.pulse_weight {
            range(section, &entry.code, "pulse_weight", above(&weight), "above 0", weight)?;
        }
        if let Some(calibre) = entry.calibre_mm {
            range(section, &entry.code, "calibre_mm", calibre > 0, "above 0", calibre)?;
        }
    }
    once(Section::MeterModels, file.meter_models.iter().map(|e| (&e.code, e.code.clone())))?;
    for entry in &file.meters {
        text(Section::Meters, &entry.number, "number", &entry.number, (1, 64))?;
    }
    once(Section::Meters, file.meters.iter().map(|e| (&e.number, e.number.clone())))?;
    once(
        Section::Devices,
        file.meters.iter().flat_map(|e| e.devices.iter().map(|d| (*d, d.to_string()))),
    )?;
    for entry in &file.installed_meters {
        let section = Section::InstalledMeters;
        let multiplier = entry.multiplier;
        let inside = multiplier > rust_decimal::Decimal::ZERO;
        range(section, &entry.meter, "multiplier", inside, "above 0", multiplier)?;
        if entry.closing_count.is_some() && entry.until.is_none() {
            return Err(wrong(section, &entry.meter, EntryProblem::ClosingWithoutEnd));
        }
    }
    periods(
        Section::InstalledMeters,
        file.installed_meters.iter().map(|e| (e.meter.as_str(), e.from, e.until)),
    )
}

fn agreements(file: &RegistryFile) -> Checked {
    for entry in &file.agreements {
        text(Section::Agreements, &entry.service_point, "class", &entry.class, (1, 64))?;
    }
    periods(
        Section::Agreements,
        file.agreements.iter().map(|e| (e.service_point.as_str(), e.from, e.until)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_contradicts_the_file_is_named() {
        let cases = [
            (
                r#"{"organisations":[{"code":"O","name":"n"},{"code":"O","name":"m"}]}"#,
                "organisations \"O\": stands in the file twice",
            ),
            (
                r#"{"books":[{"code":"B","organisation":"O","name":"n","read_day":31}]}"#,
                "books \"B\": read_day must be 1 to 28, it is 31",
            ),
            (
                r#"{"books":[{"code":"B","organisation":"O","name":"n","read_day":1,"cycles":[
                    {"name":"1","from":"2026-01-01","until":"2026-02-01"},
                    {"name":"2","from":"2026-01-31","until":"2026-03-01"}]}]}"#,
                "books.cycles \"B from 2026-01-31\": overlaps with the one from 2026-01-01",
            ),
            (
                r#"{"households":[{"code":"H","persons":[{"from":"2026-01-01","persons":4},
                    {"from":"2026-02-01","persons":5}]}]}"#,
                "households.persons \"H from 2026-02-01\": overlaps with the one from 2026-01-01",
            ),
            (
                r#"{"installed_meters":[{"meter":"M","service_point":"S","opening_count":0,
                    "from":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}]}"#,
                "installed_meters \"M\": must end after it starts: \
                 2026-01-02T00:00:00+00:00 .. 2026-01-01T00:00:00+00:00",
            ),
            (
                r#"{"schedules":[{"code":"S","organisation":"O","name":"n","commodity":"water",
                    "versions":[{"from":"2026-01-01","document":"d","file":"x.toml"}]}]}"#,
                "schedules.versions \"S from 2026-01-01\": has no text: give text or file, \
                 and read the registry file from disk",
            ),
            (
                r#"{"customers":[{"number":"","name":"n"}]}"#,
                "customers \"\": number must have 1 to 64 characters, it has 0",
            ),
        ];
        for (text, message) in cases {
            let file = RegistryFile::from_json(text).unwrap();
            assert_eq!(check(&file).unwrap_err().to_string(), message);
        }
        assert_eq!(check(&RegistryFile::default()), Ok(()));
    }
}
