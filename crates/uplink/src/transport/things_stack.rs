//! The Things Stack version 3 `up` messages, JSON.
//!
//! In: the body of one message. Out: an envelope with the decrypted payload.
//! Never here: `decoded_payload`.

use super::json::{base64_bytes, best, eui, milliseconds, null_as_default, radio};
use super::{TransportError, bounded};
use crate::{Envelope, Network};
use chrono::{DateTime, Utc};
use model::DeviceKey;
use serde::Deserialize;
use serde_json::Number;
use std::borrow::Cow;

const PLATFORM: &str = "things-stack";

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    end_device_ids: Ids<'a>,
    #[serde(borrow)]
    received_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uplink_message: Option<Uplink<'a>>,
}

#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow)]
    dev_eui: Option<Cow<'a, str>>,
}

/// Zeros are left out by the platform (a counter of 0 is absent).
#[derive(Deserialize)]
struct Uplink<'a> {
    f_port: Option<u8>,
    #[serde(default, deserialize_with = "null_as_default")]
    f_cnt: u32,
    #[serde(borrow)]
    frm_payload: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    rx_metadata: Vec<Heard<'a>>,
    #[serde(borrow)]
    received_at: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Heard<'a> {
    #[serde(borrow)]
    gateway_ids: Option<GatewayIds<'a>>,
    rssi: Option<Number>,
    snr: Option<Number>,
}

#[derive(Deserialize)]
struct GatewayIds<'a> {
    #[serde(borrow)]
    eui: Option<Cow<'a, str>>,
}

/// The envelope of an `up` message; `None` for the platform's other messages.
pub(super) fn open(
    body: &[u8],
    received_at: DateTime<Utc>,
) -> Result<Option<Envelope>, TransportError> {
    let platform = PLATFORM;
    let event: Event<'_> =
        serde_json::from_slice(body).map_err(|source| TransportError::Json { platform, source })?;
    let Some(uplink) = event.uplink_message else {
        return Ok(None);
    };
    let named = event.end_device_ids.dev_eui.as_deref();
    let named = named.ok_or(TransportError::Missing { platform, field: "dev_eui" })?;
    let expected = "EUI of 8 bytes";
    let dev_eui =
        eui(named).ok_or(TransportError::Field { platform, field: "dev_eui", expected })?;
    let payload = match &uplink.frm_payload {
        Some(data) => bounded(platform, base64_bytes(platform, "frm_payload", data)?)?,
        None => Vec::new(),
    };
    // When the network heard it; the outer time is when the application server passed it on.
    let times = [&uplink.received_at, &event.received_at];
    let network_time_ms = times.into_iter().find_map(|time| milliseconds(time.as_deref()?));
    Ok(Some(Envelope {
        device: Some(DeviceKey::DevEui(dev_eui)),
        network: Network::LorawanServer,
        payload,
        f_port: uplink.f_port,
        counter: Some(uplink.f_cnt),
        received_at_ms: received_at.timestamp_millis(),
        network_time_ms,
        // Correlation ids trace a message; real events repeat them, so they identify no uplink.
        dedup: None,
        radio: best(uplink.rx_metadata.iter().map(|heard| {
            let gateway = heard.gateway_ids.as_ref().and_then(|ids| eui(ids.eui.as_deref()?));
            radio(gateway, heard.rssi.as_ref(), heard.snr.as_ref())
        })),
        source: platform.to_owned(),
    }))
}
