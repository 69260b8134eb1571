//! The registry snapshot: which meter, with which keys and profile, is installed where.
//!
//! In: rows of the registry, as plain values. Out: look-up by device.
//! Never here: Postgres, how keys are kept at rest, money, customers.

use crate::{InstantPeriod, MeterId, ServicePointId, Unit};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt, str::FromStr};
use zeroize::Zeroize;

/// How a device names itself on the air.
///
/// Written `dev_eui:0101010101010101`, `dev_addr:01020304`, `cjt188:00201707010069`,
/// `dlt645:000000000001`, `imei:867512079825846`, `serial:4711`, `mbus:…` (manufacturer, id,
/// version, type as 16 hex digits in wire order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKey {
    /// LoRaWAN device EUI.
    DevEui(u64),
    /// LoRaWAN device address, where no network server names the device.
    DevAddr(u32),
    /// CJ/T 188 meter address: 14 BCD digits as a number, manufacturer code first.
    Cjt188(u64),
    /// DL/T 645 meter address: 12 BCD digits as a number.
    Dlt645(u64),
    /// IMEI of an NB-IoT module: 15 digits.
    Imei(u64),
    /// Serial number in our native frame.
    Serial(u64),
    /// Wireless M-Bus address: manufacturer, id, version, type, 8 bytes in wire order.
    Mbus(u64),
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevEui(eui) => write!(f, "dev_eui:{eui:016x}"),
            Self::DevAddr(address) => write!(f, "dev_addr:{address:08x}"),
            Self::Cjt188(number) => write!(f, "cjt188:{number:014}"),
            Self::Dlt645(number) => write!(f, "dlt645:{number:012}"),
            Self::Imei(number) => write!(f, "imei:{number:015}"),
            Self::Serial(number) => write!(f, "serial:{number}"),
            Self::Mbus(address) => write!(f, "mbus:{address:016x}"),
        }
    }
}

/// A device name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a device: want kind:number, as in dev_eui:0101010101010101")]
pub struct DeviceKeyParseError(pub String);

impl FromStr for DeviceKey {
    type Err = DeviceKeyParseError;
    fn from_str(text: &str) -> Result<Self, DeviceKeyParseError> {
        let wrong = || DeviceKeyParseError(text.to_owned());
        let (kind, number) = text.split_once(':').ok_or_else(wrong)?;
        if !number.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let hex = || u64::from_str_radix(number, 16).map_err(|_| wrong());
        let decimal =
            |limit: u64| number.parse::<u64>().ok().filter(|n| *n < limit).ok_or_else(wrong);
        match kind {
            "dev_eui" => hex().map(Self::DevEui),
            "dev_addr" => u32::from_str_radix(number, 16).map(Self::DevAddr).map_err(|_| wrong()),
            "cjt188" => decimal(100_000_000_000_000).map(Self::Cjt188),
            "dlt645" => decimal(1_000_000_000_000).map(Self::Dlt645),
            "imei" => decimal(1_000_000_000_000_000).map(Self::Imei),
            "serial" => decimal(u64::MAX).map(Self::Serial),
            "mbus" => hex().map(Self::Mbus),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for DeviceKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A 128-bit key. Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct SecretKey([u8; 16]);

impl SecretKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the cipher only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// What it takes to open a raw LoRaWAN frame (LoRaWAN 1.0.x, activation by personalisation or
/// an imported session).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LorawanSession {
    /// The address the device uses in this session.
    pub dev_addr: u32,
    /// Checks the MIC.
    pub nwk_s_key: SecretKey,
    /// Opens the payload.
    pub app_s_key: SecretKey,
}

/// A meter at a service point for a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledMeter {
    /// Where.
    pub service_point: ServicePointId,
    /// From when until when.
    pub during: InstantPeriod,
}

/// One meter, as ingest needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterEntry {
    /// The meter.
    pub meter: MeterId,
    /// Every name the device uses on the air.
    pub devices: Vec<DeviceKey>,
    /// The device profile (codec and its settings): `native`, `cjt188-2004`.
    pub profile: String,
    /// Opens and checks sealed native frames and encrypted M-Bus.
    pub key: Option<SecretKey>,
    /// Opens raw LoRaWAN frames.
    pub lorawan: Option<LorawanSession>,
    /// Digits of the billing register, all of them, the ones after the point included.
    pub register_digits: u8,
    /// Power of ten of the billing register's last digit, in `register_unit`.
    pub register_exponent: i8,
    /// Unit of the billing register.
    pub register_unit: Unit,
    /// The most the meter can pass in an hour, in `register_unit` (Q4 or the overload flow).
    pub hourly_max: Decimal,
    /// What one pulse is worth in `register_unit`, where the device counts pulses.
    pub pulse_weight: Option<Decimal>,
    /// Where it is and was installed, oldest first.
    pub installed: Vec<InstalledMeter>,
}

impl MeterEntry {
    /// Whether the meter hangs anywhere at `at`.
    #[must_use]
    pub fn is_installed_at(&self, at: DateTime<Utc>) -> bool {
        self.installed.iter().any(|place| place.during.contains(at))
    }
}

/// A snapshot that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Two meters claim one device name.
    #[error("device {device} belongs to meter {first} and to meter {second}")]
    DeviceTwice {
        /// The name both claim.
        device: DeviceKey,
        /// The first meter.
        first: MeterId,
        /// The second meter.
        second: MeterId,
    },
}

/// Every meter ingest may hear from, at one instant. A plain value: uplinks keep flowing while
/// Postgres is away.
#[derive(Debug, Clone, Default)]
pub struct RegistrySnapshot {
    meters: Vec<MeterEntry>,
    by_device: HashMap<DeviceKey, u32>,
    by_dev_addr: HashMap<u32, Vec<u32>>,
}

impl RegistrySnapshot {
    /// The snapshot of these meters. Several meters may share the address of their LoRaWAN
    /// sessions (the MIC tells them apart), so that address is no device name.
    ///
    /// # Errors
    /// When two meters claim one device name.
    pub fn new(meters: Vec<MeterEntry>) -> Result<Self, SnapshotError> {
        let mut by_device = HashMap::with_capacity(meters.len());
        let mut by_dev_addr: HashMap<u32, Vec<u32>> = HashMap::new();
        for (position, entry) in (0_u32..).zip(&meters) {
            for device in &entry.devices {
                if let Some(first) = by_device.insert(*device, position) {
                    let first = meters.get(first as usize).map_or(entry.meter, |m| m.meter);
                    return Err(SnapshotError::DeviceTwice {
                        device: *device,
                        first,
                        second: entry.meter,
                    });
                }
            }
            if let Some(session) = &entry.lorawan {
                by_dev_addr.entry(session.dev_addr).or_default().push(position);
            }
        }
        Ok(Self { meters, by_device, by_dev_addr })
    }

    /// The meter behind a device name.
    #[must_use]
    pub fn by_device(&self, device: DeviceKey) -> Option<&MeterEntry> {
        self.by_device.get(&device).and_then(|position| self.meters.get(*position as usize))
    }

    /// Every meter whose LoRaWAN session uses this device address.
    pub fn by_dev_addr(&self, dev_addr: u32) -> impl Iterator<Item = &MeterEntry> {
        let positions = self.by_dev_addr.get(&dev_addr).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|position| self.meters.get(*position as usize))
    }

    /// Every meter.
    #[must_use]
    pub fn meters(&self) -> &[MeterEntry] {
        &self.meters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(meter: u32, devices: &[DeviceKey]) -> MeterEntry {
        MeterEntry {
            meter: MeterId::new(meter),
            devices: devices.to_vec(),
            profile: "native".to_owned(),
            key: Some(SecretKey::new([7; 16])),
            lorawan: None,
            register_digits: 8,
            register_exponent: -3,
            register_unit: Unit::CubicMetre,
            hourly_max: Decimal::from(5),
            pulse_weight: None,
            installed: Vec::new(),
        }
    }

    #[test]
    fn a_device_reads_back_from_its_name() {
        let devices = [
            DeviceKey::DevEui(0x0101_0101_0101_0101),
            DeviceKey::DevAddr(0x0102_0304),
            DeviceKey::Cjt188(201_707_010_069),
            DeviceKey::Dlt645(1),
            DeviceKey::Imei(867_512_079_825_846),
            DeviceKey::Serial(4711),
            DeviceKey::Mbus(0x7A44_1234_5678_0107),
        ];
        for device in devices {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "imei", "imei:+1", "imei:1234567890123456", "serial:0x1", "phone:1"] {
            assert!(wrong.parse::<DeviceKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_meters_cannot_share_a_name() {
        let device = DeviceKey::Serial(1);
        let error = RegistrySnapshot::new(vec![entry(1, &[device]), entry(2, &[device])]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "device serial:1 belongs to meter 1 and to meter 2"
        );
        let snapshot = RegistrySnapshot::new(vec![entry(1, &[device])]).unwrap();
        assert_eq!(snapshot.by_device(device).unwrap().meter, MeterId::new(1));
        assert!(snapshot.by_device(DeviceKey::Serial(2)).is_none());
    }

    #[test]
    fn meters_may_share_a_lorawan_address() {
        let on_air = |meter, eui| MeterEntry {
            lorawan: Some(LorawanSession {
                dev_addr: 0x0102_0304,
                nwk_s_key: SecretKey::new([1; 16]),
                app_s_key: SecretKey::new([2; 16]),
            }),
            ..entry(meter, &[DeviceKey::DevEui(eui)])
        };
        let snapshot = RegistrySnapshot::new(vec![on_air(1, 1), on_air(2, 2)]).unwrap();
        let found: Vec<_> = snapshot.by_dev_addr(0x0102_0304).map(|entry| entry.meter).collect();
        assert_eq!(found, [MeterId::new(1), MeterId::new(2)]);
        assert_eq!(snapshot.by_dev_addr(7).count(), 0);
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", SecretKey::new([0xAB; 16])), "SecretKey(..)");
    }
}
