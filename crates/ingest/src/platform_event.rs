//! Platform events from files, as the platform would publish them (`tidemark replay-events`).
//!
//! In: the text of a file: one event, an event beside notes about it (`{"integration", "event"}`),
//! or a list of either. Out: topic and body of each, to be published to the broker.
//! Never here: opening files, the broker, decoding an uplink (see `uplink::transport`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

/// One event, ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformEvent {
    /// The topic the platform uses for it.
    pub topic: String,
    /// Its JSON.
    pub body: Vec<u8>,
}

/// A file that is no platform event.
#[derive(Debug, thiserror::Error)]
pub enum PlatformEventError {
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson(#[from] serde_json::Error),
    /// JSON, but of no platform that publishes to a broker.
    #[error("no platform publishes this to a broker: an object with {keys}")]
    UnknownShape {
        /// The keys it has, the first few of them.
        keys: String,
    },
}

/// The events in a file, in order.
///
/// # Errors
/// When the text is not JSON, or an event in it is of a platform that does not publish over MQTT
/// (`ThingPark`, LORIOT, `CTWing`, `OneNET`, Huawei: those push over HTTP).
pub fn platform_events(text: &[u8]) -> Result<Vec<PlatformEvent>, PlatformEventError> {
    let file: Value = serde_json::from_slice(text)?;
    match file.as_array() {
        Some(events) => events.iter().cloned().map(one).collect(),
        None => one(file).map(|event| vec![event]),
    }
}

fn one(file: Value) -> Result<PlatformEvent, PlatformEventError> {
    let noted = file.get("integration").and_then(|_| file.get("event")).cloned();
    let event = noted.unwrap_or(file);
    let topic = event
        .as_object()
        .and_then(topic)
        .ok_or_else(|| PlatformEventError::UnknownShape { keys: keys(&event) })?;
    Ok(PlatformEvent { topic, body: serde_json::to_vec(&event)? })
}

/// The topic of an event, by what it looks like.
fn topic(event: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let inner = |outer: &str, key: &str| event.get(outer)?.get(key)?.as_str();
    if let Some(device) = inner("end_device_ids", "device_id") {
        // The Things Stack
        let application = event.get("end_device_ids")?.pointer("/application_ids/application_id");
        let application = application.and_then(Value::as_str).unwrap_or("application");
        let kind = if event.contains_key("uplink_message") { "up" } else { "service" };
        return Some(format!("v3/{}/devices/{}/{kind}", level(application), level(device)));
    }
    if let Some(device) = inner("deviceInfo", "devEui") {
        // ChirpStack 4
        let application = inner("deviceInfo", "applicationId").unwrap_or("application");
        let kind = chirpstack_kind(event);
        let (application, device) = (level(application), level(device));
        return Some(format!("application/{application}/device/{device}/event/{kind}"));
    }
    if let Some(device) = text("devEUI") {
        // ChirpStack 3 application server
        let application = text("applicationID").unwrap_or("0");
        let kind = chirpstack_kind(event);
        let (application, device) = (level(application), hex_eui(device));
        return Some(format!("application/{application}/device/{device}/event/{kind}"));
    }
    if event.contains_key("phyPayload") {
        // ChirpStack gateway bridge
        let gateway = inner("rxInfo", "gatewayId").or_else(|| inner("rxInfo", "gatewayID"))?;
        return Some(format!("gateway/{}/event/up", hex_eui(gateway)));
    }
    if let Some(gateway) = text("gatewayId").or_else(|| text("gatewayID")) {
        let kind = [
            ("stdout", "exec"),
            ("items", "ack"),
            ("rxPacketsReceived", "stats"),
            ("payload", "raw"),
        ];
        let kind = kind.iter().find(|(key, _)| event.contains_key(*key))?.1;
        return Some(format!("gateway/{}/event/{kind}", hex_eui(gateway)));
    }
    None
}

/// Which of ChirpStack's events this is.
fn chirpstack_kind(event: &Map<String, Value>) -> &'static str {
    let has = |key: &str| event.contains_key(key);
    if has("acknowledged") {
        "ack"
    } else if has("queueItemId") || has("downlinkId") || has("gatewayId") {
        "txack"
    } else if has("error") || has("level") {
        "log"
    } else if has("margin") || has("batteryLevel") {
        "status"
    } else if has("integrationName") || has("eventType") {
        "integration"
    } else if has("location") {
        "location"
    } else if has("rxInfo") || has("data") {
        "up"
    } else {
        "join"
    }
}

/// An EUI as the topic has it: hexadecimal, also where the event has base64.
fn hex_eui(text: &str) -> String {
    if text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return text.to_ascii_lowercase();
    }
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 8 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Ok(_) | Err(_) => level(text),
    }
}

/// A name as one level of a topic.
fn level(name: &str) -> String {
    let fits = |c: char| !matches!(c, '/' | '+' | '#' | '\0');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(64).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

fn keys(event: &Value) -> String {
    match event {
        Value::Object(object) => {
            let keys: Vec<&str> = object.keys().take(6).map(String::as_str).collect();
            keys.join(", ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            "no keys".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_of(text: &str) -> String {
        match platform_events(text.as_bytes()) {
            Ok(events) => events.iter().map(|e| e.topic.as_str()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_event_is_published_where_its_platform_would() {
        let cases = [
            (
                r#"{"deviceInfo":{"applicationId":"a-1","devEui":"0101010101010101"},"data":"qg==","rxInfo":[]}"#,
                "application/a-1/device/0101010101010101/event/up",
            ),
            (
                r#"{"deviceInfo":{"applicationId":"a-1","devEui":"0101010101010101"},"devAddr":"00189440"}"#,
                "application/a-1/device/0101010101010101/event/join",
            ),
            (
                r#"{"integration":"chirpstack-v3","event":{"applicationID":"123","devEUI":"AgICAgICAgI=","fCnt":10,"data":"AQ=="}}"#,
                "application/123/device/0202020202020202/event/up",
            ),
            (
                r#"{"applicationID":"123","devEUI":"AgICAgICAgI=","rxInfo":[],"acknowledged":true}"#,
                "application/123/device/0202020202020202/event/ack",
            ),
            (
                r#"{"end_device_ids":{"device_id":"d","application_ids":{"application_id":"app@ttn"}},"uplink_message":{}}"#,
                "v3/app@ttn/devices/d/up",
            ),
            (
                r#"{"phyPayload":"AA==","rxInfo":{"gatewayID":"cnb/AC4GLBg="}}"#,
                "gateway/7276ff002e062c18/event/up",
            ),
            (
                r#"[{"phyPayload":"AA==","rxInfo":{"gatewayId":"0016c001f153a14c"}}]"#,
                "gateway/0016c001f153a14c/event/up",
            ),
            (
                r#"{"DevEUI_uplink":{}}"#,
                "no platform publishes this to a broker: an object with DevEUI_uplink",
            ),
            ("7", "no platform publishes this to a broker: an object with no keys"),
            ("{", "not JSON"),
        ];
        for (text, want) in cases {
            assert_eq!(topic_of(text), want, "{text}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_level_of_the_topic() {
        let text = r##"{"end_device_ids":{"device_id":"a/#"},"uplink_message":{}}"##;
        assert_eq!(topic_of(text), "v3/application/devices/a__/up");
    }

    #[test]
    fn every_shared_event_of_a_broker_platform_has_a_topic() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/events");
        let Ok(files) = std::fs::read_dir(folder) else { return };
        for file in files {
            let text = std::fs::read(file.unwrap().path()).unwrap();
            let value: Value = serde_json::from_slice(&text).unwrap();
            let integration = value["integration"].as_str().unwrap().to_ascii_lowercase();
            let by_broker = ["chirpstack", "thingsstack", "gateway-bridge-v"]
                .iter()
                .any(|platform| integration.contains(platform));
            if by_broker && !integration.ends_with("-cmd") {
                let events = platform_events(&text).unwrap();
                assert_eq!(events.len(), 1, "{integration}");
            }
        }
    }
}
