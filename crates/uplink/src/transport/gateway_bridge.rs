//! `ChirpStack` gateway bridge and MQTT forwarder `up` events (versions 3 and 4), JSON.
//!
//! In: the body of one event. Out: an envelope with the `PHYPayload`, still closed.
//! Never here: LoRaWAN itself (see `phy`).

use super::chirpstack::rx_info;
use super::json::{base64_bytes, eui, milliseconds, radio, to_base64};
use super::{TransportError, bounded};
use crate::{Envelope, Network};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Number, json};
use std::borrow::Cow;

const PLATFORM: &str = "gateway-bridge";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    phy_payload: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rx_info: Option<RxInfo<'a>>,
}

/// Version 4 writes hex and `snr`, version 3 base64 and `loRaSNR`; the time has had three names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RxInfo<'a> {
    #[serde(borrow, alias = "gatewayID")]
    gateway_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gw_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ns_time: Option<Cow<'a, str>>,
    rssi: Option<Number>,
    #[serde(alias = "loRaSNR")]
    snr: Option<Number>,
    #[serde(borrow, alias = "crc_status")]
    crc_status: Option<Cow<'a, str>>,
}

/// The envelope of an `up` event; `None` when the message carries no frame.
pub(super) fn open(
    body: &[u8],
    received_at: DateTime<Utc>,
) -> Result<Option<Envelope>, TransportError> {
    let event: Event<'_> = serde_json::from_slice(body)
        .map_err(|source| TransportError::Json { platform: PLATFORM, source })?;
    let Some(frame) = &event.phy_payload else {
        return Ok(None);
    };
    let payload = bounded(PLATFORM, base64_bytes(PLATFORM, "phyPayload", frame)?)?;
    let heard = event.rx_info.as_ref();
    if let Some(status) = heard.and_then(|rx| rx.crc_status.as_deref())
        && status == "BAD_CRC"
    {
        return Err(TransportError::Damaged(status.to_owned()));
    }
    let network_time_ms = heard.and_then(|rx| {
        [&rx.gw_time, &rx.time, &rx.ns_time]
            .into_iter()
            .find_map(|time| milliseconds(time.as_deref()?))
    });
    let radio = heard
        .map(|rx| radio(rx.gateway_id.as_deref().and_then(eui), rx.rssi.as_ref(), rx.snr.as_ref()));
    Ok(Some(Envelope {
        device: None,
        network: Network::LorawanRaw,
        payload,
        f_port: None,
        counter: None,
        received_at_ms: received_at.timestamp_millis(),
        network_time_ms,
        dedup: None,
        radio: radio.unwrap_or_default(),
        source: PLATFORM.to_owned(),
    }))
}

/// Topic and body of a version 4 `up` event with this `PHYPayload`.
#[must_use]
pub fn encode_up(envelope: &Envelope) -> (String, Vec<u8>) {
    let mut info = rx_info(envelope);
    let time = envelope.network_time_ms.and_then(DateTime::from_timestamp_millis);
    if let (Some(time), Some(fields)) = (time, info.as_object_mut()) {
        let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
        fields.insert("gwTime".to_owned(), text.into());
    }
    let event = json!({
        "phyPayload": to_base64(&envelope.payload),
        "txInfo": { "frequency": 486_300_000 },
        "rxInfo": info,
    });
    let gateway = envelope.radio.gateway.unwrap_or_default();
    (format!("gateway/{gateway:016x}/event/up"), event.to_string().into_bytes())
}
