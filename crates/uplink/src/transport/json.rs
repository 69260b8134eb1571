//! Reading values out of JSON events the way platforms really write them.
//!
//! In: strings and numbers. Out: bytes, EUIs, times, radio facts.
//! Never here: floats; a number's text is read digit by digit.

use super::TransportError;
use crate::Radio;
use crate::bytes::from_hex;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Base64 as platforms write it: padding or not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// The bytes of a base64 text.
pub(super) fn base64_bytes(
    platform: &'static str,
    field: &'static str,
    text: &str,
) -> Result<Vec<u8>, TransportError> {
    BASE64.decode(text).map_err(|_| TransportError::Field {
        platform,
        field,
        expected: "base64 text",
    })
}

/// Base64 text of bytes.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// An EUI of 64 bits: 16 hex digits, or 8 bytes in base64 (`ChirpStack` 3 by its marshaler).
pub(super) fn eui(text: &str) -> Option<u64> {
    let bytes = if text.len() == 16 { from_hex(text).ok() } else { BASE64.decode(text).ok() };
    bytes?.try_into().ok().map(u64::from_be_bytes)
}

/// Milliseconds since 1970 of an RFC 3339 time; platforms write up to nanoseconds.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc).timestamp_millis())
}

/// A UUID's 16 bytes.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    from_hex(&digits).ok()?.try_into().ok()
}

/// Tenths of a JSON number, further digits cut off: `-10.25` gives -102.
pub(super) fn tenths(number: &Number) -> Option<i16> {
    let text = number.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.as_str()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let tenth = fraction.get(..1)?.parse::<i16>().ok()?;
    whole.parse::<i16>().ok()?.checked_mul(10)?.checked_add(tenth)?.checked_mul(sign)
}

/// The whole part of a JSON number.
pub(super) fn whole(number: &Number) -> Option<i16> {
    tenths(number).map(|tenths| tenths / 10)
}

/// One receiving gateway's facts, not yet chosen from.
pub(super) fn radio(gateway: Option<u64>, rssi: Option<&Number>, snr: Option<&Number>) -> Radio {
    Radio { gateway, rssi_dbm: rssi.and_then(whole), snr_tenths: snr.and_then(tenths) }
}

/// The gateway that heard best: by signal to noise, then by power.
pub(super) fn best(radios: impl Iterator<Item = Radio>) -> Radio {
    radios.max_by_key(|radio| (radio.snr_tenths, radio.rssi_dbm)).unwrap_or_default()
}

/// `null` and absence alike give the default.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
