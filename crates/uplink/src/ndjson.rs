//! One JSON request line to one JSON result line: what `tidemark decode --ndjson` speaks.
//!
//! In: `{"hex", "profile"?, "key"?, "f_port"?, "nwk_s_key"?, "app_s_key"?, "app_key"?,
//! "counter"?}`, and for LoRaWAN 1.1 `f_nwk_s_int_key`, `s_nwk_s_int_key`, `tx_dr`, `tx_ch`,
//! `conf_fcnt`. Out: `{"ok": …}` or `{"error": {"code", "message", "offset"}}`, for every line.
//! Never here: reading and writing lines, meters, the registry.

mod output;

use crate::bytes::from_hex;
use crate::codec::{cjt188, mbus, native};
use crate::decoded::{Decoded, Details};
use crate::phy::{self, Facts, Keys11, MessageType};
use crate::profile::{self, Codec, Profile};
use crate::{PAYLOAD_BYTES_MAX, UplinkError};
use model::DeviceKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The longest request line, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// A request. Fields nobody here knows are read over, so rows of test sets can be sent as they are.
#[derive(Debug, Deserialize)]
struct Request {
    hex: String,
    profile: Option<String>,
    key: Option<String>,
    /// M-Bus telegrams the meter sent before, in full: a compact one needs their format.
    #[serde(default)]
    previous_telegrams: Vec<String>,
    nwk_s_key: Option<String>,
    app_s_key: Option<String>,
    app_key: Option<String>,
    counter: Option<u32>,
    f_nwk_s_int_key: Option<String>,
    s_nwk_s_int_key: Option<String>,
    #[serde(default)]
    tx_dr: u8,
    #[serde(default)]
    tx_ch: u8,
    #[serde(default)]
    conf_fcnt: u32,
}

/// Why a line got no result.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("request line has {got} bytes, more than {LINE_BYTES_MAX}")]
    TooLong { got: usize },
    #[error("request is malformed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is no hex text")]
    Hex { field: &'static str, offset: usize },
    #[error("{field} has {got} bytes, a key has 16")]
    KeyLength { field: &'static str, got: usize },
    #[error("{0}")]
    Uplink(#[from] UplinkError),
}

impl LineError {
    const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "oversized",
            Self::Json(_) => "malformed_request",
            Self::Hex { .. } => "malformed_hex",
            Self::KeyLength { .. } => "malformed_key",
            Self::Uplink(error) => error.code(),
        }
    }

    const fn offset(&self) -> Option<usize> {
        match self {
            Self::TooLong { .. } | Self::Json(_) | Self::KeyLength { .. } => None,
            Self::Hex { offset, .. } => Some(*offset),
            Self::Uplink(error) => error.offset(),
        }
    }
}

/// The result line for a request line, without a line feed. Never fails: what goes wrong is the
/// result.
#[must_use]
pub fn answer(line: &str) -> String {
    let result = match answer_or_error(line) {
        Ok(fields) => json!({ "ok": fields }),
        Err(error) => {
            let (code, message, offset) = (error.code(), error.to_string(), error.offset());
            json!({ "error": { "code": code, "message": message, "offset": offset } })
        }
    };
    result.to_string()
}

fn answer_or_error(line: &str) -> Result<Map<String, Value>, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong { got: line.len() });
    }
    let request: Request = serde_json::from_str(line)?;
    let text: String = request.hex.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = from_hex(&text).map_err(|offset| LineError::Hex { field: "hex", offset })?;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        let (got, limit) = (bytes.len(), PAYLOAD_BYTES_MAX);
        return Err(UplinkError::Oversized { what: "payload", got, limit }.into());
    }
    let wanted = match &request.profile {
        Some(name) => Some(profile::by_name(name).ok_or_else(|| UplinkError::UnknownProfile {
            name: name.chars().take(64).collect(),
        })?),
        None => None,
    };
    let keys = Keys::of(&request)?;
    let is_lorawan = wanted.is_some_and(|profile| profile.codec == Codec::Lorawan)
        || keys.is_lorawan()
        || (wanted.is_none() && profile::sniff(&bytes).is_none() && keys.app.is_some());
    let decoded = if is_lorawan {
        lorawan(&bytes, wanted, &keys, &request)?
    } else {
        let profile =
            wanted.or_else(|| profile::sniff(&bytes)).ok_or(UplinkError::NotRecognised)?;
        payload(&bytes, profile, &keys)?
    };
    Ok(output::fields(&decoded))
}

/// What a request knows beside the payload: keys, and formats of M-Bus telegrams before it.
struct Keys {
    formats: mbus::FormatMemory,
    meter: Option<[u8; 16]>,
    nwk_s: Option<[u8; 16]>,
    app_s: Option<[u8; 16]>,
    app: Option<[u8; 16]>,
    v1_1: Option<Keys11>,
}

impl Keys {
    fn of(request: &Request) -> Result<Self, LineError> {
        let f_nwk_s_int = key("f_nwk_s_int_key", request.f_nwk_s_int_key.as_deref())?;
        let s_nwk_s_int = key("s_nwk_s_int_key", request.s_nwk_s_int_key.as_deref())?;
        let [low, high, ..] = request.conf_fcnt.to_le_bytes();
        let meter = key("key", request.key.as_deref())?;
        Ok(Self {
            formats: formats(request, meter.as_ref())?,
            meter,
            nwk_s: key("nwk_s_key", request.nwk_s_key.as_deref())?,
            app_s: key("app_s_key", request.app_s_key.as_deref())?,
            app: match &request.app_key {
                Some(text) => key("app_key", Some(text))?,
                None => key("key", request.key.as_deref())?,
            },
            v1_1: f_nwk_s_int.zip(s_nwk_s_int).map(|(f_nwk_s_int_key, s_nwk_s_int_key)| Keys11 {
                f_nwk_s_int_key,
                s_nwk_s_int_key,
                data_rate: request.tx_dr,
                channel: request.tx_ch,
                confirmed_counter: u16::from_le_bytes([low, high]),
            }),
        })
    }

    const fn is_lorawan(&self) -> bool {
        self.nwk_s.is_some() || self.app_s.is_some() || self.v1_1.is_some()
    }
}

/// The most telegrams a request may give for their formats.
const PREVIOUS_MAX: usize = 64;

/// The formats of the telegrams before; one that cannot be read teaches nothing.
fn formats(request: &Request, key: Option<&[u8; 16]>) -> Result<mbus::FormatMemory, LineError> {
    let mut formats = mbus::FormatMemory::default();
    for text in request.previous_telegrams.iter().take(PREVIOUS_MAX) {
        let field = "previous_telegrams";
        let bytes = from_hex(text).map_err(|offset| LineError::Hex { field, offset })?;
        let _taught_or_not = mbus::decode(&bytes, &profile::WMBUS, key, &mut formats);
    }
    Ok(formats)
}

fn key(field: &'static str, text: Option<&str>) -> Result<Option<[u8; 16]>, LineError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let bytes = from_hex(text).map_err(|offset| LineError::Hex { field, offset })?;
    let got = bytes.len();
    bytes.try_into().map(Some).map_err(|_| LineError::KeyLength { field, got })
}

/// A meter's own payload.
fn payload(bytes: &[u8], profile: &'static Profile, keys: &Keys) -> Result<Decoded, UplinkError> {
    match &profile.codec {
        Codec::Native => {
            let (header, _) = native::header(bytes)?;
            match &keys.meter {
                Some(key) if header.sealed => {
                    native::decode(&native::unseal(bytes, key)?, true, profile)
                }
                Some(_) | None => native::decode(bytes, false, profile),
            }
        }
        Codec::Cjt188(settings) => cjt188::decode(bytes, profile, settings),
        Codec::Mbus => mbus::decode(bytes, profile, keys.meter.as_ref(), &mut keys.formats.clone()),
        Codec::Lorawan => Err(UplinkError::NotRecognised),
    }
}

/// A LoRaWAN frame: its header, its MIC where a key is there, and the payload inside where one of
/// our profiles reads it.
fn lorawan(
    bytes: &[u8],
    wanted: Option<&'static Profile>,
    keys: &Keys,
    request: &Request,
) -> Result<Decoded, UplinkError> {
    let kind = phy::message_type(bytes)?;
    if !kind.is_data() {
        return join(bytes, kind, keys);
    }
    let frame = phy::data_frame(bytes)?;
    let mut facts = frame.facts();
    // A given counter is the frame's own when its low half fits, else the last one before it.
    let given = request.counter;
    let own = given.filter(|counter| counter & 0xFFFF == u32::from(frame.f_cnt));
    let confirmed = match (&keys.nwk_s, &keys.v1_1) {
        (Some(key), _) => Some(frame.confirmed_counter(key, given)),
        (None, Some(keys)) => {
            let counter = own.unwrap_or(u32::from(frame.f_cnt));
            Some(frame.mic_1_1_fits(keys, counter).then_some(counter))
        }
        (None, None) => None,
    };
    if let Some(confirmed) = confirmed {
        let counter = confirmed.ok_or(UplinkError::MicMismatch { dev_addr: frame.dev_addr })?;
        facts.mic_valid = Some(true);
        facts.counter = counter;
    } else if let Some(own) = own {
        facts.counter = own;
    }
    let closing = if frame.f_port == Some(0) { &keys.nwk_s } else { &keys.app_s };
    facts.plain = closing
        .as_ref()
        .filter(|_| frame.f_port.is_some())
        .map(|key| frame.decrypt(key, facts.counter));
    inside(facts, wanted, keys)
}

/// The payload inside a LoRaWAN frame, when a profile was asked for or its first bytes tell.
fn inside(
    facts: Facts,
    wanted: Option<&'static Profile>,
    keys: &Keys,
) -> Result<Decoded, UplinkError> {
    let device = Some(DeviceKey::DevAddr(facts.dev_addr));
    let plain = facts.plain.clone().unwrap_or_default();
    let asked = wanted.filter(|profile| profile.codec != Codec::Lorawan);
    let mut decoded = match asked {
        Some(profile) if !plain.is_empty() => payload(&plain, profile, keys)?,
        Some(profile) => Decoded::nothing(profile),
        // Nobody asked: garbage under a wrong key must not become an error of a codec.
        None => profile::sniff(&plain)
            .and_then(|profile| payload(&plain, profile, keys).ok())
            .unwrap_or_else(|| Decoded::nothing(&profile::LORAWAN)),
    };
    decoded.device = decoded.device.or(device);
    decoded.details = Details::Lorawan(Box::new(facts));
    Ok(decoded)
}

/// A join frame: everything it says is a detail.
fn join(bytes: &[u8], kind: MessageType, keys: &Keys) -> Result<Decoded, UplinkError> {
    let mut decoded = Decoded::nothing(&profile::LORAWAN);
    if kind == MessageType::JoinRequest {
        let request = phy::join_request(bytes)?;
        let mic_valid = keys.app.map(|key| request.mic_fits(&key));
        if mic_valid == Some(false) {
            return Err(UplinkError::MicMismatch { dev_addr: 0 });
        }
        decoded.device = Some(DeviceKey::DevEui(request.dev_eui));
        decoded.details = Details::JoinRequest {
            join_eui: request.join_eui,
            dev_eui: request.dev_eui,
            dev_nonce: request.dev_nonce,
            mic_valid,
        };
    } else if kind == MessageType::JoinAccept {
        let key = keys.app.ok_or(UplinkError::KeyMissing { what: "app_key of the device" })?;
        let accept = phy::join_accept(bytes, &key)?;
        if !accept.mic_valid {
            return Err(UplinkError::MicMismatch { dev_addr: accept.dev_addr });
        }
        decoded.details = Details::JoinAccept(Box::new(accept));
    } else if kind == MessageType::RejoinRequest {
        // LoRaWAN 1.1 only: recognised, and nothing in it for a meter reading.
        decoded.details = Details::RejoinRequest;
    } else {
        let value = u64::from(bytes.first().copied().unwrap_or_default());
        return Err(UplinkError::Unsupported { what: "message type of MHDR", value, offset: 0 });
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests;
