//! Records of ingest's own spool: uplinks others published, and what could not be read as one.
//!
//! In: an envelope's bytes, or a message with what was wrong with it. Out: the bytes of a record,
//! and the record again.
//! Never here: the spool itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The most of a foreign message's body that is kept.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest topic that is kept, in characters.
const TOPIC_CHARS_MAX: usize = 512;

const UPLINK: u8 = 0;
const FOREIGN: u8 = 1;

/// A message on a topic of ours that no transport could read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignMessage {
    /// Where it was published.
    pub topic: String,
    /// Its body, at most [`BODY_BYTES_MAX`] of it.
    pub body: Vec<u8>,
    /// When it reached us, milliseconds since 1970 UTC.
    pub received_at_ms: i64,
    /// The stable code of what is wrong with it.
    pub code: String,
    /// What is wrong with it, for a person.
    pub message: String,
}

impl ForeignMessage {
    /// The message with its parts cut to what is kept.
    #[must_use]
    pub fn new(topic: &str, body: &[u8], received_at_ms: i64, code: &str, message: String) -> Self {
        Self {
            topic: topic.chars().take(TOPIC_CHARS_MAX).collect(),
            body: body.get(..BODY_BYTES_MAX).unwrap_or(body).to_vec(),
            received_at_ms,
            code: code.to_owned(),
            message,
        }
    }
}

/// What a stream carries at one sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An encoded envelope.
    Uplink(Bytes),
    /// A message that is none.
    Foreign(ForeignMessage),
}

impl Record {
    /// The bytes kept in our own spool.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Uplink(envelope) => {
                let mut bytes = Vec::with_capacity(envelope.len().saturating_add(1));
                bytes.push(UPLINK);
                bytes.extend_from_slice(envelope);
                bytes
            }
            Self::Foreign(message) => {
                let bytes = vec![FOREIGN];
                // Writing plain fields into a growing vector has no way to fail.
                postcard::to_extend(message, bytes).unwrap_or_default()
            }
        }
    }

    /// The record in these bytes. What is neither is passed on as an uplink, whose envelope will
    /// not open: nothing that was spooled disappears.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Self {
        match bytes.split_first() {
            Some((&FOREIGN, rest)) => match postcard::from_bytes(rest) {
                Ok(message) => Self::Foreign(message),
                Err(_) => Self::Uplink(bytes),
            },
            Some((&UPLINK, rest)) => Self::Uplink(bytes.slice_ref(rest)),
            Some(_) | None => Self::Uplink(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back(envelope in proptest::collection::vec(any::<u8>(), 0..99), topic in ".{0,40}", at: i64) {
            let uplink = Record::Uplink(envelope.clone().into());
            prop_assert_eq!(Record::decode(uplink.encode().into()), uplink);
            let message = ForeignMessage::new(&topic, &envelope, at, "not_json", "no".to_owned());
            let foreign = Record::Foreign(message);
            prop_assert_eq!(Record::decode(foreign.encode().into()), foreign);
        }

        #[test]
        fn no_bytes_are_lost(bytes in proptest::collection::vec(2u8.., 0..99)) {
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(Record::decode(bytes.clone()), Record::Uplink(bytes));
        }
    }

    #[test]
    fn a_huge_message_is_cut() {
        let message = ForeignMessage::new("t", &vec![b'x'; BODY_BYTES_MAX + 1], 0, "c", "m".into());
        assert_eq!(message.body.len(), BODY_BYTES_MAX);
    }
}
