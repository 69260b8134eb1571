//! Which platform a message comes from.
//!
//! In: a topic, a body. Out: a shape. Never here: reading fields.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The shapes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `ChirpStack` application server, versions 3 and 4.
    ChirpStack,
    /// The Things Stack, version 3.
    ThingsStack,
    /// `ChirpStack` gateway bridge or MQTT forwarder, versions 3 and 4.
    GatewayBridge,
    /// A known platform's message that carries no uplink.
    NoUplink,
    /// A known platform whose uplinks are not taken in yet.
    NotYet(&'static str),
}

/// By topic: `application/…/device/…/event/up`, `v3/…/devices/…/up`, `[region/]gateway/…/event/up`.
/// The same with another last level is that platform's other event.
pub(super) fn by_topic(topic: &str) -> Option<Shape> {
    let mut levels = topic.split('/');
    let level: [&str; 6] = std::array::from_fn(|_| levels.next().unwrap_or_default());
    if levels.next().is_some() {
        return None;
    }
    let up = |kind: &str, shape| if kind == "up" { shape } else { Shape::NoUplink };
    match level {
        ["application", _, "device", _, "event", kind] => Some(up(kind, Shape::ChirpStack)),
        ["application", _, "device", _, "rx", ""] => Some(Shape::ChirpStack),
        ["v3", _, "devices", _, kind, ""] => Some(up(kind, Shape::ThingsStack)),
        ["gateway", _, "event", kind, "", ""] | [_, "gateway", _, "event", kind, ""] => {
            Some(up(kind, Shape::GatewayBridge))
        }
        _ => None,
    }
}

/// Only which fields are there; their values are skipped, not kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Present {
    device_info: Option<IgnoredAny>,
    #[serde(rename = "devEUI")]
    dev_eui: Option<IgnoredAny>,
    phy_payload: Option<IgnoredAny>,
    #[serde(rename = "end_device_ids")]
    end_device_ids: Option<IgnoredAny>,
    #[serde(rename = "gatewayID", alias = "gatewayId")]
    gateway_id: Option<IgnoredAny>,
    cmd: Option<IgnoredAny>,
    #[serde(rename = "DevEUI_uplink")]
    thingpark: Option<IgnoredAny>,
    message_type: Option<IgnoredAny>,
    notify_type: Option<IgnoredAny>,
    msg: Option<IgnoredAny>,
    rxpk: Option<IgnoredAny>,
    txpk: Option<IgnoredAny>,
    stat: Option<IgnoredAny>,
}

/// By the fields of a JSON object.
pub(super) fn by_body(body: &[u8]) -> Option<Shape> {
    let present: Present = serde_json::from_slice(body).ok()?;
    let rows = [
        (present.phy_payload.is_some(), Shape::GatewayBridge),
        (present.end_device_ids.is_some(), Shape::ThingsStack),
        (present.notify_type.is_some(), Shape::NotYet("Huawei OceanConnect")),
        (present.device_info.is_some() || present.dev_eui.is_some(), Shape::ChirpStack),
        (present.thingpark.is_some(), Shape::NotYet("ThingPark")),
        (present.rxpk.is_some(), Shape::NotYet("Semtech UDP")),
        (present.txpk.is_some() || present.stat.is_some(), Shape::NoUplink),
        (present.cmd.is_some(), Shape::NotYet("LORIOT")),
        (present.message_type.is_some(), Shape::NotYet("CTWing")),
        (present.msg.is_some(), Shape::NotYet("OneNET")),
        (present.gateway_id.is_some(), Shape::NoUplink),
    ];
    rows.into_iter().find_map(|(there, shape)| there.then_some(shape))
}
