//! Register reads and meter events: what a frame says once it is decoded and dated.
//!
//! In: decoded values with the instant they belong to. Out: plain values every room shares.
//! Never here: where the frame came from, whether the read is believed (see `verdict`).

use crate::{Register, RegisterValue};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a read came to be. The discriminant is what ClickHouse stores: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ReadQuality {
    /// The meter measured and reported it.
    Actual = 0,
    /// The meter reported it together with a fault that touches the measurement.
    Suspect = 1,
    /// Computed for a missing read.
    Estimated = 2,
    /// Entered by a person (补录).
    Manual = 3,
    /// A new version of a read, by a person with a reason.
    Edited = 4,
}

impl ReadQuality {
    /// The quality with this stored code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Actual),
            1 => Some(Self::Suspect),
            2 => Some(Self::Estimated),
            3 => Some(Self::Manual),
            4 => Some(Self::Edited),
            _ => None,
        }
    }
}

/// The value of a register at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegisterRead {
    /// Which counter.
    pub register: Register,
    /// What it showed.
    pub value: RegisterValue,
    /// When it showed it, to the second.
    pub measured_at: DateTime<Utc>,
    /// How the value came to be.
    pub quality: ReadQuality,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Something a meter reports beside its registers. The discriminant is stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum EventKind { $($(#[$doc])* $name = $code,)* }

        impl EventKind {
            /// Every kind there is.
            pub const ALL: &[EventKind] = &[$(EventKind::$name,)*];

            /// The name in output: `battery_low`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(EventKind::$name => $text,)* }
            }

            /// The kind with this stored code.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<EventKind> {
                match code { $($code => Some(EventKind::$name),)* _ => None }
            }
        }
    };
}

events! {
    ValveOpen = 1, "valve_open";
    ValveClosed = 2, "valve_closed";
    /// The valve did not reach either end.
    ValveFault = 3, "valve_fault";
    BatteryLow = 4, "battery_low";
    Leak = 5, "leak";
    Burst = 6, "burst";
    Backflow = 7, "backflow";
    /// The case was opened or the device moved.
    Tamper = 8, "tamper";
    /// A magnet near the sensor.
    Magnet = 9, "magnet";
    EmptyPipe = 10, "empty_pipe";
    SensorFault = 11, "sensor_fault";
    Overrange = 12, "overrange";
    PowerFailure = 13, "power_failure";
    ClockInvalid = 14, "clock_invalid";
    Restarted = 15, "restarted";
    /// A vendor's own alarm; the raw status word says which.
    VendorAlarm = 16, "vendor_alarm";
    RelayOpen = 17, "relay_open";
    RelayClosed = 18, "relay_closed";
    /// The frame answers a command with an error.
    CommandRefused = 19, "command_refused";
    Removed = 20, "removed";
}

/// An event with the instant it was reported for and the status word it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MeterEvent {
    /// What happened.
    pub kind: EventKind,
    /// When the meter says it happened; the time of the uplink where it does not say.
    pub at: DateTime<Utc>,
    /// The raw status word the event was read from; 0 where there is none.
    pub detail: u64,
}
