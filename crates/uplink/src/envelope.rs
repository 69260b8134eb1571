//! Envelopes: one uplink as delivered, with its transport facts, the payload still opaque.
//!
//! In: what a transport learned. Out: a value, and its versioned bytes for spool and broker.
//! Never here: keys, decoding, the wall clock.

use model::DeviceKey;
use serde::{Deserialize, Serialize};

/// The longest payload an envelope carries, in bytes. A LoRaWAN frame has at most 255, one CoAP
/// message at most 1,152; platforms push text.
pub const PAYLOAD_BYTES_MAX: usize = 8192;

/// The longest source name an envelope carries, in bytes.
pub const SOURCE_BYTES_MAX: usize = 64;

/// The longest encoded envelope, in bytes: payload, source and every other field at its longest.
pub const ENVELOPE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + SOURCE_BYTES_MAX + 128;

const VERSION: u8 = 1;

/// How an uplink reached us: says what its payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    /// `CoAP` from an NB-IoT meter: the payload is the meter's own frame.
    NbIot,
    /// A LoRaWAN network server: the payload is already decrypted.
    LorawanServer,
    /// A LoRaWAN gateway: the payload is a `PHYPayload`, still closed.
    LorawanRaw,
    /// A carrier's platform: the payload is what the meter gave the platform.
    Platform,
}

/// What the best receiving gateway says of the radio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Radio {
    /// The gateway's EUI.
    pub gateway: Option<u64>,
    /// Received power in dBm.
    pub rssi_dbm: Option<i16>,
    /// Signal to noise in tenths of a dB.
    pub snr_tenths: Option<i16>,
}

/// One uplink with its transport facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The device, where the transport names it; otherwise the payload does.
    #[serde(with = "device_on_the_wire")]
    pub device: Option<DeviceKey>,
    /// How it reached us.
    pub network: Network,
    /// What the device sent, at most [`PAYLOAD_BYTES_MAX`].
    #[serde(with = "bytes_on_the_wire")]
    pub payload: Vec<u8>,
    /// LoRaWAN port, where the network server says it.
    pub f_port: Option<u8>,
    /// The uplink counter, where the transport says it.
    pub counter: Option<u32>,
    /// When our own process received it, milliseconds since 1970 UTC.
    pub received_at_ms: i64,
    /// When the network says it received it, milliseconds since 1970 UTC.
    pub network_time_ms: Option<i64>,
    /// The platform's own deduplication id.
    pub dedup: Option<[u8; 16]>,
    /// Radio facts of the best gateway.
    pub radio: Radio,
    /// Which door it came through (`coap`, `chirpstack-v4`), at most [`SOURCE_BYTES_MAX`] bytes.
    pub source: String,
}

/// Bytes that are not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nothing there.
    #[error("envelope is empty")]
    Empty,
    /// Longer than any envelope.
    #[error("envelope has {got} bytes, more than {ENVELOPE_BYTES_MAX}")]
    TooLong {
        /// How many came.
        got: usize,
    },
    /// Written by another version of this crate.
    #[error("envelope version {got}, this program knows {VERSION}")]
    Version {
        /// The version byte.
        got: u8,
    },
    /// The bytes do not follow the layout.
    #[error("envelope is malformed")]
    Malformed(#[source] postcard::Error),
    /// Bytes remain after the last field.
    #[error("envelope has {left} bytes after its end")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// A field is longer than its limit.
    #[error("envelope {field} has {got} bytes, more than {limit}")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// How many bytes it has.
        got: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl Envelope {
    /// The bytes of this envelope: a version byte, then the fields in `postcard`.
    ///
    /// The doors keep payload and source within their limits; an envelope beyond them encodes,
    /// but does not decode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let start = Vec::with_capacity(self.payload.len() + self.source.len() + 64);
        let mut bytes = start;
        bytes.push(VERSION);
        // Writing plain fields into a growing vector has no way to fail.
        postcard::to_extend(self, bytes).unwrap_or_default()
    }

    /// The envelope in `bytes`, all of them.
    ///
    /// # Errors
    /// When the bytes are empty, too long, of another version, malformed, or beyond a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { got: bytes.len() });
        }
        let (&version, body) = bytes.split_first().ok_or(EnvelopeError::Empty)?;
        if version != VERSION {
            return Err(EnvelopeError::Version { got: version });
        }
        let (envelope, rest) =
            postcard::take_from_bytes::<Self>(body).map_err(EnvelopeError::Malformed)?;
        if !rest.is_empty() {
            return Err(EnvelopeError::Trailing { left: rest.len() });
        }
        for (field, got, limit) in [
            ("payload", envelope.payload.len(), PAYLOAD_BYTES_MAX),
            ("source", envelope.source.len(), SOURCE_BYTES_MAX),
        ] {
            if got > limit {
                return Err(EnvelopeError::FieldTooLong { field, got, limit });
            }
        }
        Ok(envelope)
    }
}

/// A device name as kind and number: 2 to 11 bytes where its text has up to 24.
mod device_on_the_wire {
    use model::DeviceKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Never reorder: the position is on the wire.
    #[derive(Serialize, Deserialize)]
    enum Wire {
        Unnamed,
        DevEui(u64),
        DevAddr(u32),
        Cjt188(u64),
        Dlt645(u64),
        Imei(u64),
        Serial(u64),
        Mbus(u64),
    }

    #[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
    pub(super) fn serialize<S: Serializer>(
        device: &Option<DeviceKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match *device {
            None => Wire::Unnamed,
            Some(DeviceKey::DevEui(number)) => Wire::DevEui(number),
            Some(DeviceKey::DevAddr(number)) => Wire::DevAddr(number),
            Some(DeviceKey::Cjt188(number)) => Wire::Cjt188(number),
            Some(DeviceKey::Dlt645(number)) => Wire::Dlt645(number),
            Some(DeviceKey::Imei(number)) => Wire::Imei(number),
            Some(DeviceKey::Serial(number)) => Wire::Serial(number),
            Some(DeviceKey::Mbus(number)) => Wire::Mbus(number),
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DeviceKey>, D::Error> {
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Unnamed => None,
            Wire::DevEui(number) => Some(DeviceKey::DevEui(number)),
            Wire::DevAddr(number) => Some(DeviceKey::DevAddr(number)),
            Wire::Cjt188(number) => Some(DeviceKey::Cjt188(number)),
            Wire::Dlt645(number) => Some(DeviceKey::Dlt645(number)),
            Wire::Imei(number) => Some(DeviceKey::Imei(number)),
            Wire::Serial(number) => Some(DeviceKey::Serial(number)),
            Wire::Mbus(number) => Some(DeviceKey::Mbus(number)),
        })
    }
}

/// Bytes as one block, not as a list of numbers: same layout, one copy.
mod bytes_on_the_wire {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_envelope() -> impl Strategy<Value = Envelope> {
        let device = prop_oneof![
            Just(None),
            any::<u64>().prop_map(|n| Some(DeviceKey::DevEui(n))),
            any::<u32>().prop_map(|n| Some(DeviceKey::DevAddr(n))),
            any::<u64>().prop_map(|n| Some(DeviceKey::Cjt188(n))),
            any::<u64>().prop_map(|n| Some(DeviceKey::Dlt645(n))),
            any::<u64>().prop_map(|n| Some(DeviceKey::Imei(n))),
            any::<u64>().prop_map(|n| Some(DeviceKey::Serial(n))),
            any::<u64>().prop_map(|n| Some(DeviceKey::Mbus(n))),
        ];
        let network = prop_oneof![
            Just(Network::NbIot),
            Just(Network::LorawanServer),
            Just(Network::LorawanRaw),
            Just(Network::Platform),
        ];
        let radio = any::<(Option<u64>, Option<i16>, Option<i16>)>()
            .prop_map(|(gateway, rssi_dbm, snr_tenths)| Radio { gateway, rssi_dbm, snr_tenths });
        (
            device,
            network,
            proptest::collection::vec(any::<u8>(), 0..300),
            any::<(Option<u8>, Option<u32>, i64, Option<i64>, Option<[u8; 16]>)>(),
            radio,
            "[a-z0-9-]{0,64}",
        )
            .prop_map(|(device, network, payload, numbers, radio, source)| Envelope {
                device,
                network,
                payload,
                f_port: numbers.0,
                counter: numbers.1,
                received_at_ms: numbers.2,
                network_time_ms: numbers.3,
                dedup: numbers.4,
                radio,
                source,
            })
    }

    #[test]
    fn an_envelope_beyond_its_limits_is_refused_by_name() {
        let mut envelope = Envelope {
            device: None,
            network: Network::NbIot,
            payload: vec![0; PAYLOAD_BYTES_MAX + 1],
            f_port: None,
            counter: None,
            received_at_ms: 0,
            network_time_ms: None,
            dedup: None,
            radio: Radio::default(),
            source: "coap".to_owned(),
        };
        let error = Envelope::decode(&envelope.encode()).unwrap_err();
        assert_eq!(error.to_string(), "envelope payload has 8193 bytes, more than 8192");
        envelope.payload.truncate(10);
        let mut bytes = envelope.encode();
        assert_eq!(bytes.len(), 27);
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        bytes.push(0);
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Trailing { left: 1 }));
        assert_eq!(Envelope::decode(&[2]), Err(EnvelopeError::Version { got: 2 }));
        assert_eq!(Envelope::decode(&[]), Err(EnvelopeError::Empty));
    }

    proptest! {
        #[test]
        fn an_envelope_reads_back_from_its_bytes(envelope in any_envelope()) {
            let bytes = envelope.encode();
            prop_assert!(bytes.len() <= ENVELOPE_BYTES_MAX);
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn no_bytes_panic_as_an_envelope(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
            }
        }
    }
}
