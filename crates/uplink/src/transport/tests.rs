//! Events as platforms send them, built here field by field; laws over all bodies.

use super::*;
use crate::{Network, Radio};
use model::DeviceKey;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_323_200, 0).unwrap()
}

fn open(topic: &str, body: &Value) -> Result<Vec<Envelope>, TransportError> {
    open_event(topic, body.to_string().as_bytes(), now())
}

fn one(topic: &str, body: &Value) -> Envelope {
    let mut envelopes = open(topic, body).unwrap();
    assert_eq!(envelopes.len(), 1);
    envelopes.remove(0)
}

fn v4() -> Value {
    json!({
        "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
        "time": "2026-03-01T00:00:00.123456789+00:00",
        "deviceInfo": { "applicationId": "a", "devEui": "0102030405060708" },
        "devAddr": "00189440", "dr": 1, "fCnt": 7, "fPort": 2, "data": "qrs=",
        "rxInfo": [
            { "gatewayId": "0016c001f153a14c", "rssi": -100, "snr": -3.25 },
            { "gatewayId": "0016c001f153a14d", "rssi": -110, "snr": 4.5 },
        ],
        "object": { "volume": 1.5 },
    })
}

#[test]
fn chirpstack_4_keeps_counter_times_best_radio_and_its_own_id() {
    let envelope = one("application/a/device/0102030405060708/event/up", &v4());
    assert_eq!(envelope.device, Some(DeviceKey::DevEui(0x0102_0304_0506_0708)));
    assert_eq!((envelope.network, envelope.payload), (Network::LorawanServer, vec![0xAA, 0xBB]));
    assert_eq!((envelope.counter, envelope.f_port), (Some(7), Some(2)));
    assert_eq!(envelope.network_time_ms, Some(1_772_323_200_123));
    assert_eq!(envelope.received_at_ms, 1_772_323_200_000);
    let radio =
        Radio { gateway: Some(0x0016_C001_F153_A14D), rssi_dbm: Some(-110), snr_tenths: Some(45) };
    assert_eq!(envelope.radio, radio);
    assert_eq!(envelope.dedup.unwrap()[..3], [0x3A, 0xC7, 0xE3]);
    assert_eq!(envelope.source, "chirpstack-v4");
}

#[test]
fn an_absent_counter_is_zero_and_an_absent_payload_is_empty() {
    let mut event = v4();
    let fields = event.as_object_mut().unwrap();
    fields.remove("fCnt");
    fields.remove("data");
    let envelope = one("", &event);
    assert_eq!((envelope.counter, envelope.payload), (Some(0), vec![]));
}

#[test]
fn chirpstack_3_names_devices_in_base64_or_hex() {
    for eui in ["AQIDBAUGBwg=", "0102030405060708", "AQIDBAUGBwg"] {
        let event = json!({
            "applicationID": "1", "devEUI": eui, "fCnt": 10, "fPort": 5, "data": "AQ==",
            "rxInfo": [{ "gatewayID": "AwMDAwMDAwM=", "time": "2026-03-01T00:00:01Z",
                         "rssi": -48, "loRaSNR": 9, "uplinkID": "jhMh8Gq6RAOChSKbi83RHQ==" }],
            "objectJSON": "{\"a\":1}",
        });
        let envelope = one("application/1/device/0102030405060708/event/up", &event);
        assert_eq!(envelope.device, Some(DeviceKey::DevEui(0x0102_0304_0506_0708)), "{eui}");
        assert_eq!(envelope.radio.gateway, Some(0x0303_0303_0303_0303));
        assert_eq!(envelope.radio.snr_tenths, Some(90));
        assert_eq!(envelope.network_time_ms, Some(1_772_323_201_000));
        assert_eq!((envelope.dedup, envelope.source.as_str()), (None, "chirpstack-v3"));
    }
}

#[test]
fn the_things_stack_opens_with_the_time_the_network_heard_it() {
    let event = json!({
        "end_device_ids": { "device_id": "d", "dev_eui": "FC48C900000001C5" },
        "correlation_ids": ["gs:uplink:01JC0A8PDF12JZJMW3H2BD65Q3"],
        "received_at": "2026-03-01T00:00:09Z",
        "uplink_message": {
            "f_port": 3, "frm_payload": "AQID", "received_at": "2026-03-01T00:00:08.5Z",
            "rx_metadata": [
                { "gateway_ids": { "gateway_id": "packetbroker" }, "rssi": -24, "snr": 12 },
                { "gateway_ids": { "eui": "24E124FFFEF24699" }, "rssi": -20, "snr": 12.0 },
            ],
        },
    });
    let envelope = one("v3/app@ttn/devices/d/up", &event);
    assert_eq!(envelope.device, Some(DeviceKey::DevEui(0xFC48_C900_0000_01C5)));
    assert_eq!((envelope.counter, envelope.f_port), (Some(0), Some(3)));
    assert_eq!(envelope.network_time_ms, Some(1_772_323_208_500));
    assert_eq!(envelope.radio.gateway, Some(0x24E1_24FF_FEF2_4699));
    let join = json!({ "end_device_ids": { "dev_eui": "FC48C900000001C5" }, "join_accept": {} });
    assert!(open("", &join).unwrap().is_empty());
}

#[test]
fn a_gateway_hands_over_the_frame_as_it_is() {
    for (gateway, snr, time) in
        [("0016c001f153a14c", "snr", "gwTime"), ("ABbAAfFToUw=", "loRaSNR", "time")]
    {
        let event = json!({
            "phyPayload": "QAQDAgGAAQABppRkJhXWw7WC",
            "txInfo": {},
            "rxInfo": { if snr == "snr" { "gatewayId" } else { "gatewayID" }: gateway,
                        "rssi": -57, snr: 10.2, time: "2026-03-01T00:00:00Z" },
        });
        let envelope = one("eu868/gateway/0016c001f153a14c/event/up", &event);
        assert_eq!((envelope.device, envelope.network), (None, Network::LorawanRaw));
        assert_eq!(envelope.payload.len(), 18);
        assert_eq!(envelope.radio.gateway, Some(0x0016_C001_F153_A14C));
        assert_eq!(envelope.radio.snr_tenths, Some(102));
        assert_eq!(envelope.network_time_ms, Some(1_772_323_200_000));
    }
    let damaged = json!({ "phyPayload": "QA==", "rxInfo": { "crcStatus": "BAD_CRC" } });
    assert_eq!(open("", &damaged).unwrap_err().code(), "damaged");
}

#[test]
fn other_events_are_no_uplinks_and_no_errors() {
    let ack = json!({ "deviceInfo": { "devEui": "0102030405060708" }, "acknowledged": true,
                      "fCntDown": 2, "queueItemId": "x" });
    let join3 = json!({ "devEUI": "0102030405060708", "devAddr": "AFE5Qg==", "rxInfo": [] });
    let stats = json!({ "gatewayId": "0016c001f153a14c", "rxPacketsReceived": 1 });
    for (topic, body) in [
        ("", &ack),
        ("", &join3),
        ("", &stats),
        ("application/a/device/0102030405060708/event/join", &v4()),
        ("gateway/0016c001f153a14c/event/stats", &stats),
        ("eu868/gateway/0016c001f153a14c/event/ack", &stats),
        ("v3/app@ttn/devices/d/join", &json!({})),
    ] {
        assert!(open(topic, body).unwrap().is_empty(), "{topic} {body}");
    }
}

#[test]
fn what_cannot_be_taken_is_named() {
    let code = |topic: &str, body: &Value| open(topic, body).unwrap_err().code();
    assert_eq!(code("", &json!({ "a": 1 })), "unknown_platform");
    assert_eq!(code("weather/today", &json!(17)), "unknown_platform");
    assert_eq!(code("", &json!({ "cmd": "rx", "EUI": "0102030405060708" })), "unsupported");
    assert_eq!(code("", &json!({ "DevEUI_uplink": {} })), "unsupported");
    let up = "application/a/device/0102030405060708/event/up";
    assert_eq!(code(up, &json!({ "fCnt": "seven" })), "malformed_json");
    assert_eq!(code(up, &json!({ "data": "AQ==", "fPort": 1 })), "missing_field");
    let mut event = v4();
    event["deviceInfo"]["devEui"] = "0102".into();
    assert_eq!(code(up, &event), "malformed_field");
    let mut event = v4();
    event["data"] = "A*==".into();
    let error = open(up, &event).unwrap_err();
    assert_eq!(error.to_string(), "data of chirpstack-v4 event is no base64 text");
    let mut event = v4();
    event["data"] = "A".repeat(12_000).into();
    assert_eq!(code(up, &event), "oversized");
    let long = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(open_event(up, &long, now()).unwrap_err().code(), "oversized");
}

fn heard() -> impl Strategy<Value = Radio> {
    any::<(u64, i16)>().prop_flat_map(|(gateway, rssi)| {
        (-3000_i16..3000).prop_map(move |snr| Radio {
            gateway: Some(gateway),
            rssi_dbm: Some(rssi / 20),
            snr_tenths: Some(snr),
        })
    })
}

proptest! {
    #[test]
    fn a_simulated_event_opens_to_what_was_sent(eui: u64, payload in vec(any::<u8>(), 0..200), counter: u32, port: u8, seconds in 0_i64..4_000_000_000, id: [u8; 16], radio in heard()) {
        let sent = Envelope {
            device: Some(DeviceKey::DevEui(eui)),
            network: Network::LorawanServer,
            payload,
            f_port: Some(port),
            counter: Some(counter),
            received_at_ms: now().timestamp_millis(),
            network_time_ms: Some(seconds * 1000 + 250),
            dedup: Some(id),
            radio,
            source: "chirpstack-v4".to_owned(),
        };
        let (topic, body) = encode_chirpstack_v4_up(&sent, "7").unwrap();
        prop_assert_eq!(open_event(&topic, &body, now()).unwrap(), vec![sent.clone()]);
        prop_assert_eq!(open_event("", &body, now()).unwrap(), vec![sent.clone()]);
        let raw = Envelope { device: None, network: Network::LorawanRaw, f_port: None, counter: None, dedup: None, source: "gateway-bridge".to_owned(), ..sent };
        let (topic, body) = encode_gateway_bridge_v4_up(&raw);
        prop_assert_eq!(open_event(&topic, &body, now()).unwrap(), vec![raw.clone()]);
        prop_assert_eq!(open_event("", &body, now()).unwrap(), vec![raw]);
    }

    #[test]
    fn no_topic_and_body_panic(topic in "[a-z0-9/+#@]{0,40}", body in vec(any::<u8>(), 0..200)) {
        let _opened = open_event(&topic, &body, now()).is_ok();
    }

    #[test]
    fn no_field_of_another_type_panics(field in prop::sample::select(vec!["deviceInfo", "devEUI", "data", "rxInfo", "fCnt", "time", "deduplicationId", "phyPayload", "end_device_ids", "uplink_message"]), value in prop::sample::select(vec![json!(null), json!(-1), json!(1.5e300), json!("é"), json!([]), json!([1]), json!({}), json!({"devEui": 1}), json!([{"snr": 1e99, "rssi": "x", "gatewayId": "é"}])])) {
        let mut event = v4();
        event[field] = value;
        for topic in ["", "application/a/device/b/event/up", "v3/a/devices/b/up", "gateway/a/event/up"] {
            let _opened = open(topic, &event).is_ok();
        }
    }
}
