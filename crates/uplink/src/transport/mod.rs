//! Transports: messages others publish, opened into envelopes.
//!
//! In: topic and body as a broker or a platform delivers them, the time of reception. Out: one
//! envelope per uplink; nothing for joins, acks, statistics and the like.
//! Never here: MQTT, HTTP, decoding payloads, deciding which copy of an uplink counts.
//!
//! A new platform is one row in [`shape`]'s table and one function that fills an [`Envelope`].

mod chirpstack;
mod gateway_bridge;
mod json;
mod shape;
mod things_stack;

pub use chirpstack::encode_up as encode_chirpstack_v4_up;
pub use gateway_bridge::encode_up as encode_gateway_bridge_v4_up;
pub use shape::Shape;

use crate::{Envelope, PAYLOAD_BYTES_MAX};
use chrono::{DateTime, Utc};

/// The topic filters ingest subscribes to for messages others publish.
pub const SUBSCRIPTIONS: &[&str] = &[
    "application/+/device/+/event/up",
    "v3/+/devices/+/up",
    "gateway/+/event/up",
    "+/gateway/+/event/up",
];

/// The longest body, in bytes. The largest real events have 5 KiB.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Why a message is no uplink we can take.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Longer than any event.
    #[error("message body has {got} bytes, more than {BODY_BYTES_MAX}")]
    TooLong {
        /// How many.
        got: usize,
    },
    /// Neither topic nor body tell who sent it.
    #[error("neither topic {topic:?} nor body tell which platform sent this")]
    UnknownPlatform {
        /// The topic it came on.
        topic: String,
    },
    /// A platform we know by its shape and do not take in yet.
    #[error("{platform} events are not supported yet")]
    UnsupportedPlatform {
        /// Which one.
        platform: &'static str,
    },
    /// The body is not JSON, or a field has another type.
    #[error("{platform} event is malformed")]
    Json {
        /// Which platform's event it should be.
        platform: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field that must be there is not.
    #[error("{platform} event has no {field}")]
    Missing {
        /// Which platform's event.
        platform: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A field is there and cannot be read.
    #[error("{field} of {platform} event is no {expected}")]
    Field {
        /// Which platform's event.
        platform: &'static str,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The payload is longer than an envelope carries.
    #[error("payload of {platform} event has {got} bytes, more than {PAYLOAD_BYTES_MAX}")]
    PayloadTooLong {
        /// Which platform's event.
        platform: &'static str,
        /// How many.
        got: usize,
    },
    /// The gateway says the radio frame arrived damaged.
    #[error("gateway marks the frame as damaged (crcStatus {0:?})")]
    Damaged(String),
}

impl TransportError {
    /// The stable name of this kind of error, for counters, dead letters and scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::PayloadTooLong { .. } => "oversized",
            Self::UnknownPlatform { .. } => "unknown_platform",
            Self::UnsupportedPlatform { .. } => "unsupported",
            Self::Json { .. } => "malformed_json",
            Self::Missing { .. } => "missing_field",
            Self::Field { .. } => "malformed_field",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// The envelopes in one message: by the shape of its topic, else by the shape of its body. A
/// message that is no uplink (join, ack, status, location …) gives none.
///
/// # Errors
/// When the message is too long, of no known platform, malformed, or its radio frame damaged.
pub fn open_event(
    topic: &str,
    body: &[u8],
    received_at: DateTime<Utc>,
) -> Result<Vec<Envelope>, TransportError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(TransportError::TooLong { got: body.len() });
    }
    let shape = match shape::by_topic(topic) {
        Some(shape) => shape,
        None => shape::by_body(body).ok_or_else(|| TransportError::UnknownPlatform {
            topic: topic.chars().take(128).collect(),
        })?,
    };
    let envelope = match shape {
        Shape::ChirpStack => chirpstack::open(body, received_at)?,
        Shape::ThingsStack => things_stack::open(body, received_at)?,
        Shape::GatewayBridge => gateway_bridge::open(body, received_at)?,
        Shape::NoUplink => None,
        Shape::NotYet(platform) => return Err(TransportError::UnsupportedPlatform { platform }),
    };
    Ok(envelope.into_iter().collect())
}

/// A payload within the limit of an envelope.
fn bounded(platform: &'static str, payload: Vec<u8>) -> Result<Vec<u8>, TransportError> {
    match payload.len() {
        0..=PAYLOAD_BYTES_MAX => Ok(payload),
        got => Err(TransportError::PayloadTooLong { platform, got }),
    }
}

#[cfg(test)]
mod tests;
