//! `ChirpStack` application server events (version 4 `up`, version 3 `up`), JSON.
//!
//! In: the body of one event. Out: an envelope with the decrypted payload.
//! Never here: the `object` a codec of `ChirpStack` made of it.

use super::json::{base64_bytes, best, eui, milliseconds, null_as_default, radio, to_base64, uuid};
use super::{TransportError, bounded};
use crate::{Envelope, Network};
use chrono::{DateTime, SecondsFormat, Utc};
use model::DeviceKey;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Number, json};
use std::borrow::Cow;

const V4: &str = "chirpstack-v4";
const V3: &str = "chirpstack-v3";

/// Both versions: 4 has `deviceInfo` and `snr`, 3 has `devEUI` and `loRaSNR`. Zeros are left out
/// by the platform (a counter of 0 is absent).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    deduplication_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    device_info: Option<DeviceInfo<'a>>,
    #[serde(borrow, rename = "devEUI")]
    dev_eui: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_as_default")]
    f_cnt: u32,
    f_port: Option<u8>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rx_info: Option<Vec<RxInfo<'a>>>,
    acknowledged: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceInfo<'a> {
    #[serde(borrow)]
    dev_eui: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RxInfo<'a> {
    #[serde(borrow, alias = "gatewayID", alias = "mac")]
    gateway_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    rssi: Option<Number>,
    #[serde(alias = "loRaSNR")]
    snr: Option<Number>,
}

/// The envelope of an `up` event; `None` for the platform's other events.
pub(super) fn open(
    body: &[u8],
    received_at: DateTime<Utc>,
) -> Result<Option<Envelope>, TransportError> {
    let event: Event<'_> = serde_json::from_slice(body)
        .map_err(|source| TransportError::Json { platform: "ChirpStack", source })?;
    let platform = if event.device_info.is_some() { V4 } else { V3 };
    // An uplink was heard by somebody and answers no downlink; version 3 says a port with it,
    // and its join events do not.
    let heard = event.rx_info.is_some() || event.data.is_some();
    let is_up = heard && event.acknowledged.is_none() && (platform == V4 || event.f_port.is_some());
    if !is_up {
        return Ok(None);
    }
    let named = event.device_info.as_ref().map(|info| &info.dev_eui).or(event.dev_eui.as_ref());
    let named = named.ok_or(TransportError::Missing { platform, field: "devEui" })?;
    let expected = "EUI of 8 bytes";
    let dev_eui =
        eui(named).ok_or(TransportError::Field { platform, field: "devEui", expected })?;
    let payload = match &event.data {
        Some(data) => bounded(platform, base64_bytes(platform, "data", data)?)?,
        None => Vec::new(),
    };
    let heard = event.rx_info.unwrap_or_default();
    let first_heard = heard.iter().find_map(|rx| milliseconds(rx.time.as_ref()?));
    let network_time_ms = event.time.as_deref().and_then(milliseconds).or(first_heard);
    Ok(Some(Envelope {
        device: Some(DeviceKey::DevEui(dev_eui)),
        network: Network::LorawanServer,
        payload,
        f_port: event.f_port,
        counter: Some(event.f_cnt),
        received_at_ms: received_at.timestamp_millis(),
        network_time_ms,
        dedup: event.deduplication_id.as_deref().and_then(uuid),
        radio: best(heard.iter().map(|rx| {
            radio(rx.gateway_id.as_deref().and_then(eui), rx.rssi.as_ref(), rx.snr.as_ref())
        })),
        source: platform.to_owned(),
    }))
}

/// Topic and body of a version 4 `up` event with these contents; `None` when the envelope has no
/// device EUI.
#[must_use]
pub fn encode_up(envelope: &Envelope, application: &str) -> Option<(String, Vec<u8>)> {
    let Some(DeviceKey::DevEui(dev_eui)) = envelope.device else {
        return None;
    };
    let mut event = json!({
        "deviceInfo": {
            "tenantId": "00000000-0000-0000-0000-000000000000",
            "applicationId": application,
            "deviceName": format!("{dev_eui:016x}"),
            "devEui": format!("{dev_eui:016x}"),
        },
        "adr": true,
        "dr": 5,
        "data": to_base64(&envelope.payload),
        "rxInfo": [rx_info(envelope)],
        "txInfo": { "frequency": 486_300_000 },
    });
    let fields = event.as_object_mut()?;
    if let Some(id) = envelope.dedup {
        fields.insert("deduplicationId".to_owned(), hyphenated(id).into());
    }
    if let Some(time) = envelope.network_time_ms.and_then(DateTime::from_timestamp_millis) {
        fields.insert("time".to_owned(), time.to_rfc3339_opts(SecondsFormat::Millis, false).into());
    }
    if let Some(counter) = envelope.counter.filter(|counter| *counter != 0) {
        fields.insert("fCnt".to_owned(), counter.into());
    }
    if let Some(port) = envelope.f_port {
        fields.insert("fPort".to_owned(), port.into());
    }
    let topic = format!("application/{application}/device/{dev_eui:016x}/event/up");
    Some((topic, event.to_string().into_bytes()))
}

/// What one gateway says, version 4.
pub(super) fn rx_info(envelope: &Envelope) -> serde_json::Value {
    let radio = envelope.radio;
    let mut info = serde_json::Map::new();
    if let Some(gateway) = radio.gateway {
        info.insert("gatewayId".to_owned(), format!("{gateway:016x}").into());
    }
    if let Some(rssi) = radio.rssi_dbm {
        info.insert("rssi".to_owned(), rssi.into());
    }
    if let Some(snr) = radio.snr_tenths.and_then(decimal) {
        info.insert("snr".to_owned(), snr.into());
    }
    info.insert("crcStatus".to_owned(), "CRC_OK".into());
    info.into()
}

/// Tenths as a JSON number.
fn decimal(tenths: i16) -> Option<Number> {
    let sign = if tenths < 0 { "-" } else { "" };
    let size = tenths.unsigned_abs();
    format!("{sign}{}.{}", size / 10, size % 10).parse().ok()
}

fn hyphenated(id: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(id));
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
