//! Device profiles: which codec reads a meter's payload, and with which settings.
//!
//! In: a name from the registry, or bytes. Out: a profile.
//! Never here: what a codec does.

use crate::codec::cjt188::{self, MIRRORED_STATUS, STANDARD_STATUS, Settings, UnitPosition};
use crate::codec::{mbus, native};

/// One way of reading payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name in registry, settings and output.
    pub name: &'static str,
    /// What it is, for `tidemark decode --help`.
    pub about: &'static str,
    /// Rises with every change of what the codec says of a frame; stored with each read.
    pub codec_version: u16,
    /// The meter's clock against UTC, in minutes; China's meters run on +480.
    pub utc_offset_minutes: i16,
    /// The codec with its settings.
    pub codec: Codec,
}

/// The codecs there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// Our own frame.
    Native,
    /// CJ/T 188 and its Cat.1 look-alike.
    Cjt188(Settings),
    /// M-Bus by wire or radio, OMS.
    Mbus,
    /// A LoRaWAN frame that is looked at, not carried to a meter.
    Lorawan,
}

const CHINA_MINUTES: i16 = 480;

const fn cjt188(
    name: &'static str,
    about: &'static str,
    unit_position: UnitPosition,
    status: &'static [cjt188::StatusBit],
) -> Profile {
    Profile {
        name,
        about,
        codec_version: 1,
        utc_offset_minutes: CHINA_MINUTES,
        codec: Codec::Cjt188(Settings { unit_position, status }),
    }
}

/// Our own frame.
pub static NATIVE: Profile = Profile {
    name: "native",
    about: "Tidemark's own frame, clear or sealed (docs/native-frame.md)",
    codec_version: 1,
    utc_offset_minutes: 0,
    codec: Codec::Native,
};

/// CJ/T 188 of a maker nobody named: the unit's place is found by plausibility.
pub static CJT188: Profile = cjt188(
    "cjt188",
    "CJ/T 188, unit before or after the value by plausibility",
    UnitPosition::ByPlausibility,
    STANDARD_STATUS,
);

const fn mbus(name: &'static str, about: &'static str) -> Profile {
    Profile { name, about, codec_version: 1, utc_offset_minutes: CHINA_MINUTES, codec: Codec::Mbus }
}

/// Wired M-Bus.
pub static MBUS: Profile = mbus("mbus", "M-Bus by wire (EN 13757-2, -3)");

/// Wireless M-Bus.
pub static WMBUS: Profile = mbus("wmbus", "wireless M-Bus (EN 13757-4), sealed or in clear");

static OMS: Profile = mbus("oms", "wireless M-Bus as the Open Metering System profiles it");

/// A raw LoRaWAN frame, for looking at.
pub static LORAWAN: Profile = Profile {
    name: "lorawan",
    about: "a LoRaWAN PHYPayload: header, MIC, payload in clear where keys are given",
    codec_version: 1,
    utc_offset_minutes: 0,
    codec: Codec::Lorawan,
};

static CJT188_2004: Profile = cjt188(
    "cjt188-2004",
    "CJ/T 188-2004, unit before or after the value by plausibility",
    UnitPosition::ByPlausibility,
    STANDARD_STATUS,
);

static CJT188_2018: Profile = cjt188(
    "cjt188-2018",
    "CJ/T 188-2018, unit before or after the value by plausibility",
    UnitPosition::ByPlausibility,
    STANDARD_STATUS,
);

static CJT188_UNIT_FIRST: Profile = cjt188(
    "cjt188-unit-first",
    "CJ/T 188 of makers that send the unit before the value",
    UnitPosition::Before,
    STANDARD_STATUS,
);

static CJT188_UNIT_LAST: Profile = cjt188(
    "cjt188-unit-last",
    "CJ/T 188 with the unit after the value, as the standard says, and nowhere else",
    UnitPosition::After,
    STANDARD_STATUS,
);

static CJT188_MIRRORED: Profile = cjt188(
    "cjt188-mirrored-status",
    "CJ/T 188 of makers whose status bits count from the other end",
    UnitPosition::ByPlausibility,
    MIRRORED_STATUS,
);

/// Every profile there is.
pub static ALL: [&Profile; 11] = [
    &NATIVE,
    &CJT188,
    &CJT188_2004,
    &CJT188_2018,
    &CJT188_UNIT_FIRST,
    &CJT188_UNIT_LAST,
    &CJT188_MIRRORED,
    &MBUS,
    &WMBUS,
    &OMS,
    &LORAWAN,
];

/// The profile of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Profile> {
    ALL.iter().copied().find(|profile| profile.name == name)
}

/// The profile these bytes look like, by their fixed bytes; `None` when they look like nothing
/// that can be told without keys.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<&'static Profile> {
    if bytes.first() == Some(&native::MAGIC_V1) && native::header(bytes).is_ok() {
        return Some(&NATIVE);
    }
    if mbus::begins_wired(bytes) {
        return Some(&MBUS);
    }
    if mbus::begins_wireless(bytes) {
        return Some(&WMBUS);
    }
    cjt188::begins(bytes).then_some(&CJT188)
}
