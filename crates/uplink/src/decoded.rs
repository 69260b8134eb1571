//! What a codec says of one payload.
//!
//! In: decoded fields. Out: reads and events, each dated by the meter where the meter dates it.
//! Never here: the time of reception standing in for the meter's (ingest does that), verdicts.

use crate::{codec, phy};
use chrono::{DateTime, Utc};
use model::{DeviceKey, EventKind, ReadQuality, Register, RegisterValue};

/// A read as the payload gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedRead {
    /// Which counter.
    pub register: Register,
    /// What it showed, in the meter's own unit.
    pub value: RegisterValue,
    /// When, by the meter's clock; `None` when the payload has no usable clock.
    pub measured_at: Option<DateTime<Utc>>,
    /// [`ReadQuality::Suspect`] where the meter flags a fault that touches measuring.
    pub quality: ReadQuality,
}

/// An event as the payload gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedEvent {
    /// What happened.
    pub kind: EventKind,
    /// When, by the meter's clock; `None` when the payload does not say.
    pub at: Option<DateTime<Utc>>,
    /// The raw status word the event was read from; 0 where there is none.
    pub detail: u64,
}

/// Facts of one codec that are neither reads nor events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Details {
    /// Nothing beside reads and events.
    #[default]
    None,
    /// The clear header of a native frame.
    Native(codec::native::Header),
    /// Address, control and data identifier of a CJ/T 188 frame.
    Cjt188(codec::cjt188::Facts),
    /// The report of a meter that speaks the Cat.1 look-alike of CJ/T 188.
    Cat1(Box<codec::cjt188::cat1::Facts>),
    /// The layers of an M-Bus frame.
    Mbus(Box<codec::mbus::Facts>),
    /// The header of a LoRaWAN frame that carries nothing we decode.
    Lorawan(Box<phy::Facts>),
    /// A LoRaWAN join request.
    JoinRequest {
        /// The join server (application) EUI.
        join_eui: u64,
        /// The device EUI.
        dev_eui: u64,
        /// The nonce of the request.
        dev_nonce: u16,
        /// Whether the MIC fits; `None` when no key was there to check it.
        mic_valid: Option<bool>,
    },
    /// A LoRaWAN 1.1 rejoin request: recognised, not read.
    RejoinRequest,
    /// A LoRaWAN join accept, opened.
    JoinAccept(Box<phy::JoinAccept>),
}

/// One payload, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The profile that read it.
    pub profile: &'static str,
    /// The version of its codec; stored with every read, so that a fix can be replayed.
    pub codec_version: u16,
    /// The device the payload names, where it names one.
    pub device: Option<DeviceKey>,
    /// The reads, in the order of the payload.
    pub reads: Vec<DecodedRead>,
    /// The events, in the order of the payload.
    pub events: Vec<DecodedEvent>,
    /// What else the payload says.
    pub details: Details,
}

impl Decoded {
    /// What `profile` makes of a payload before anything was read from it.
    pub(crate) const fn nothing(profile: &crate::Profile) -> Self {
        Self {
            profile: profile.name,
            codec_version: profile.codec_version,
            device: None,
            reads: Vec::new(),
            events: Vec::new(),
            details: Details::None,
        }
    }
}
