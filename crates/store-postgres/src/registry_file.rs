//! The registry file: a small utility written down, to be imported or handed to simulators.
//!
//! In: JSON or TOML text. Out: `RegistryFile`, a plain value with the trade's own codes in it.
//! Never here: database ids, SQL, the master key.

use chrono::{DateTime, NaiveDate, Utc};
use model::{Commodity, DeviceKey, SecretKey, Unit};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The largest registry or schedule file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 2 << 30;

/// A utility's registry, or a part of it. Entries refer to each other by code or number; what an
/// entry refers to may stand in the same file or have been imported before.
///
/// All periods are half-open: `from` is inside, `until` outside; no `until` means still running.
/// Codes and numbers are unique in one installation. Exact numbers are written as strings.
///
/// ```
/// let file = store_postgres::RegistryFile::from_toml(r#"
/// [[organisations]]
/// code = "JM"
/// name = "Jingmen Water"
///
/// [[schedules]]
/// code = "JM-HOUSEHOLD"
/// organisation = "JM"
/// name = "Household, tiered"
/// commodity = "water"
/// [[schedules.versions]]
/// from = "2011-03-01"
/// document = "JM-2011-12"           # the approving document (R002)
/// file = "jingmen-household.toml"   # or text = "..."
///
/// [[books]]
/// code = "B1"
/// organisation = "JM"
/// name = "North bank"
/// read_day = 1
/// cycles = [{ name = "2026-01", from = "2026-01-01", until = "2026-02-01" }]
///
/// [[customers]]
/// number = "C1"
/// name = "A. Reader"
///
/// [[accounts]]
/// number = "A1"
/// customer = "C1"
/// book = "B1"
///
/// [[households]]
/// code = "H1"
/// persons = [{ from = "2025-01-01", persons = 4 }]
///
/// [[service_points]]
/// code = "S1"
/// commodity = "water"
/// address = "1 Bank Street"
///
/// [[meter_models]]
/// code = "AQUA-15"
/// profile = "native"
/// register_digits = 8
/// register_exponent = -3
/// register_unit = "m3"
/// calibre_mm = 15
/// hourly_max = "3.125"
///
/// [[meters]]
/// number = "M1"
/// model = "AQUA-15"
/// devices = ["serial:4711", "imei:867512079825846"]
/// key = "000102030405060708090a0b0c0d0e0f"
///
/// [[installed_meters]]
/// meter = "M1"
/// service_point = "S1"
/// from = "2025-12-31T16:00:00Z"
/// opening_count = 0
///
/// [[agreements]]
/// account = "A1"
/// service_point = "S1"
/// household = "H1"
/// schedule = "JM-HOUSEHOLD"
/// class = "household"
/// from = "2026-01-01"
/// "#)?;
/// assert_eq!(file.meters[0].number, "M1");
/// # Ok::<(), store_postgres::RegistryFileError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryFile {
    /// The utility and its branches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organisations: Vec<OrganisationEntry>,
    /// Rate schedules with their versions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleEntry>,
    /// Books (抄表册) with their cycles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub books: Vec<BookEntry>,
    /// Customers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub customers: Vec<CustomerEntry>,
    /// Accounts (户号).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountEntry>,
    /// Households: whose usage fills one tier window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub households: Vec<HouseholdEntry>,
    /// Service points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_points: Vec<ServicePointEntry>,
    /// The catalogue of meter models (R053).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meter_models: Vec<MeterModelEntry>,
    /// Meters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<RegisteredMeter>,
    /// Which meter hung where, when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub installed_meters: Vec<InstalledMeterEntry>,
    /// Service agreements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agreements: Vec<AgreementEntry>,
}

/// The utility or one of its branches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganisationEntry {
    /// Its code.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Local time, minutes east of UTC; China is 480.
    #[serde(default = "china")]
    pub utc_offset_minutes: i16,
}

const fn china() -> i16 {
    480
}

/// A published tariff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEntry {
    /// Its code.
    pub code: String,
    /// Whose tariff it is.
    pub organisation: String,
    /// Its name.
    pub name: String,
    /// What it prices.
    pub commodity: Commodity,
    /// The texts in force, each for its period.
    pub versions: Vec<ScheduleVersionEntry>,
}

/// The text of a schedule in force for a period. Imported versions are active at once and from
/// then on immutable; a new text needs a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleVersionEntry {
    /// First service date it prices.
    pub from: NaiveDate,
    /// First service date it no longer prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
    /// The approving document (R002).
    pub document: String,
    /// The schedule file's text. Either this or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The schedule file's path, relative to the registry file; `RegistryFile::read` puts its
    /// text into `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// Accounts read and billed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookEntry {
    /// Its code.
    pub code: String,
    /// Whose book it is.
    pub organisation: String,
    /// Its name.
    pub name: String,
    /// Day of the month on which it is read, 1 to 28 (R039).
    pub read_day: u8,
    /// Its billing periods.
    #[serde(default)]
    pub cycles: Vec<CycleEntry>,
}

/// One billing period of a book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleEntry {
    /// Its name in the book: `2026-01`.
    pub name: String,
    /// First day, inside.
    pub from: NaiveDate,
    /// Day after the last one, outside.
    pub until: NaiveDate,
}

/// A person or company behind accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerEntry {
    /// Its number.
    pub number: String,
    /// Its name: personal data.
    pub name: String,
}

/// Who is billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// The account number (户号).
    pub number: String,
    /// The customer's number.
    pub customer: String,
    /// The book's code.
    pub book: String,
}

/// The unit whose usage fills one tier window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HouseholdEntry {
    /// Its code.
    pub code: String,
    /// How many people belonged to it, when.
    pub persons: Vec<PersonsEntry>,
}

/// How many people belong to a household from a day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonsEntry {
    /// First day.
    pub from: NaiveDate,
    /// Day after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
    /// How many people.
    pub persons: u16,
}

/// Where a commodity is delivered and metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePointEntry {
    /// Its code.
    pub code: String,
    /// What is delivered there.
    pub commodity: Commodity,
    /// Where it is: personal data.
    pub address: String,
}

/// One line of the meter catalogue (R053).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterModelEntry {
    /// Its code.
    pub code: String,
    /// The device profile (codec): `native`, `cjt188-2004`.
    pub profile: String,
    /// Digits of the billing register, the ones after the point included.
    pub register_digits: u8,
    /// Power of ten of the register's last digit, in `register_unit`.
    pub register_exponent: i8,
    /// Unit of the billing register.
    pub register_unit: Unit,
    /// Nominal calibre, mm; none for electricity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibre_mm: Option<u16>,
    /// The most the meter can pass in an hour, in `register_unit`.
    pub hourly_max: Decimal,
    /// What one pulse is worth in `register_unit`, where the device counts pulses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse_weight: Option<Decimal>,
}

/// A meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisteredMeter {
    /// The meter's own number (表号).
    pub number: String,
    /// The model's code.
    pub model: String,
    /// Every name its device uses on the air. The list is complete: names it used before and
    /// that are missing here are taken away.
    pub devices: Vec<DeviceKey>,
    /// Opens and checks sealed native frames and encrypted M-Bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<HexKey>,
    /// Opens raw LoRaWAN frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lorawan: Option<LorawanEntry>,
}

/// A LoRaWAN session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LorawanEntry {
    /// The device address, 8 hex digits.
    pub dev_addr: HexAddress,
    /// Network session key.
    pub nwk_s_key: HexKey,
    /// Application session key.
    pub app_s_key: HexKey,
}

/// A meter at a service point for a period. A changed multiplier is a new entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstalledMeterEntry {
    /// The meter's number.
    pub meter: String,
    /// The service point's code.
    pub service_point: String,
    /// When it was put in.
    pub from: DateTime<Utc>,
    /// When it was taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// What one unit of the register stands for (倍率).
    #[serde(default = "one")]
    pub multiplier: Decimal,
    /// What the billing register showed when it was put in, in its smallest unit.
    pub opening_count: i64,
    /// What it showed when it was taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_count: Option<i64>,
}

const fn one() -> Decimal {
    Decimal::ONE
}

/// An account takes a commodity at a service point under a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementEntry {
    /// The account's number.
    pub account: String,
    /// The service point's code.
    pub service_point: String,
    /// The household whose tier window it fills; none where no tiers apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub household: Option<String>,
    /// The schedule's code.
    pub schedule: String,
    /// Customer class: `household`, `commercial` (R001).
    pub class: String,
    /// First day.
    pub from: NaiveDate,
    /// Day after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<NaiveDate>,
}

/// A 128-bit key, written as 32 hex digits in the file and never printed otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HexKey(pub SecretKey);

impl HexKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(SecretKey::new(bytes))
    }
}

/// Why a hex text is not a key or address. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("want {want} hex digits")]
pub struct NotHex {
    want: usize,
}

pub(crate) fn hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let wrong = NotHex { want: N * 2 };
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong);
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        let pair = text.get(at..at + 2).ok_or(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong)?;
    }
    Ok(bytes)
}

impl std::str::FromStr for HexKey {
    type Err = NotHex;
    fn from_str(text: &str) -> Result<Self, NotHex> {
        hex(text).map(Self::new)
    }
}

impl Serialize for HexKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for HexKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A LoRaWAN device address, written as 8 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HexAddress(pub u32);

impl fmt::Display for HexAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for HexAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HexAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        hex(&text).map(|bytes| Self(u32::from_be_bytes(bytes))).map_err(serde::de::Error::custom)
    }
}

/// Why a registry file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryFileError {
    /// The file, or a schedule file it names, cannot be read.
    #[error("read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{} has {bytes} bytes; the limit is {FILE_BYTES_MAX}", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// Neither `.json` nor `.toml`.
    #[error("{}: a registry file is called *.json or *.toml", path.display())]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
    },
    /// The JSON is not a registry.
    #[error("registry file (JSON)")]
    Json(#[source] serde_json::Error),
    /// The TOML is not a registry.
    #[error("registry file (TOML)")]
    Toml(#[source] Box<toml::de::Error>),
}

impl RegistryFile {
    /// The registry in this JSON text.
    ///
    /// # Errors
    /// When the text is not a registry; the error names line and column.
    pub fn from_json(text: &str) -> Result<Self, RegistryFileError> {
        serde_json::from_str(text).map_err(RegistryFileError::Json)
    }

    /// The registry in this TOML text. Dates and times are written as strings.
    ///
    /// # Errors
    /// When the text is not a registry; the error names line and column.
    pub fn from_toml(text: &str) -> Result<Self, RegistryFileError> {
        toml::from_str(text).map_err(|error| RegistryFileError::Toml(Box::new(error)))
    }

    /// Reads `path` (`*.json` or `*.toml`) and the schedule files it names, which are looked for
    /// beside it. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read, is too large, or is not a registry.
    pub fn read(path: &Path) -> Result<Self, RegistryFileError> {
        let text = read_text(path)?;
        let mut file = match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Self::from_json(&text)?,
            Some("toml") => Self::from_toml(&text)?,
            Some(_) | None => {
                return Err(RegistryFileError::UnknownFormat { path: path.to_owned() });
            }
        };
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for version in file.schedules.iter_mut().flat_map(|schedule| &mut schedule.versions) {
            if let (None, Some(name)) = (&version.text, &version.file) {
                version.text = Some(read_text(&folder.join(name))?);
            }
        }
        Ok(file)
    }
}

fn read_text(path: &Path) -> Result<String, RegistryFileError> {
    let unreadable = |source| RegistryFileError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(RegistryFileError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_named() {
        let error =
            RegistryFile::from_json(r#"{"books":[{"code":"B1","redd_day":1}]}"#).unwrap_err();
        let RegistryFileError::Json(cause) = error else { panic!("{error}") };
        assert!(cause.to_string().contains("redd_day"), "{cause}");
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused_without_being_repeated() {
        let text = r#"{"number":"M1","model":"X","devices":[],"key":"c0ffee"}"#;
        let error = serde_json::from_str::<RegisteredMeter>(text).unwrap_err().to_string();
        assert!(error.contains("want 32 hex digits") && !error.contains("c0ffee"), "{error}");
        let key: HexKey = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"000102030405060708090a0b0c0d0e0f\"");
        assert!("+0+1+2+3+4+5+6+7+8+9+a+b+c+d+e+f".parse::<HexKey>().is_err());
        assert_eq!(format!("{key:?}"), "HexKey(SecretKey(..))");
    }

    #[test]
    fn a_registry_reads_back_from_its_json() {
        let file = RegistryFile {
            meters: vec![RegisteredMeter {
                number: "M1".to_owned(),
                model: "AQUA".to_owned(),
                devices: vec![DeviceKey::DevEui(1)],
                key: None,
                lorawan: Some(LorawanEntry {
                    dev_addr: HexAddress(0x0102_0304),
                    nwk_s_key: HexKey::new([1; 16]),
                    app_s_key: HexKey::new([2; 16]),
                }),
            }],
            ..RegistryFile::default()
        };
        let text = serde_json::to_string(&file).unwrap();
        assert_eq!(RegistryFile::from_json(&text).unwrap(), file);
    }
}
