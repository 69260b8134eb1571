//! Requests as people and scripts write them, and the answers they get.

use super::answer;
use crate::bytes::hex_lower;
use crate::codec::cjt188::{ValveAction, encode_valve_command};
use crate::codec::native::{Series, encode, encode_sealed};
use crate::phy::{DataFrame, encode_data, encode_join_request};
use chrono::DateTime;
use model::{Register, Unit};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

const KEY: [u8; 16] = [0x11; 16];

fn ask(request: &Value) -> Value {
    serde_json::from_str(&answer(&request.to_string())).unwrap()
}

fn series() -> Series<'static> {
    Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: DateTime::from_timestamp(1_772_323_200, 0).unwrap(),
        step_s: 3600,
        counts: &[1500],
        suspect: false,
    }
}

#[test]
fn a_native_frame_is_found_without_being_named() {
    let frame = encode(4711, 1, &[series()], &[]).unwrap();
    let result = ask(&json!({ "hex": hex_lower(&frame) }));
    let read = json!({
        "register": "volume", "value": "1.500", "unit": "m3",
        "measured_at": "2026-03-01T00:00:00Z", "quality": "actual",
    });
    assert_eq!(result["ok"]["profile"], "native");
    assert_eq!(result["ok"]["device"], "serial:4711");
    assert_eq!(result["ok"]["reads"], json!([read]));
    assert_eq!(result["ok"]["events"], json!([]));
}

#[test]
fn a_sealed_frame_wants_its_key() {
    let frame = hex_lower(&encode_sealed(4711, 1, &[series()], &[], &KEY).unwrap());
    let with = |key: &str| ask(&json!({ "hex": frame, "key": key }));
    assert_eq!(with("11111111111111111111111111111111")["ok"]["sealed"], true);
    assert_eq!(with("22222222222222222222222222222222")["error"]["code"], "seal_mismatch");
    assert_eq!(with("1111")["error"]["code"], "malformed_key");
    assert_eq!(with("zz")["error"]["code"], "malformed_hex");
    assert_eq!(ask(&json!({ "hex": frame }))["error"]["code"], "key_missing");
}

#[test]
fn a_command_is_told_by_name() {
    let frame = encode_valve_command(0x10, 78_330_011_223_344, ValveAction::Close, 5).unwrap();
    let result = ask(&json!({ "hex": hex_lower(&frame), "profile": "cjt188-2004" }));
    assert_eq!(result["ok"]["action"], "valve_close");
    assert_eq!(result["ok"]["address"], "78330011223344");
    assert_eq!(result["ok"]["control"], "04");
    assert_eq!(result["ok"]["di"], "A017");
}

#[test]
fn a_raw_frame_opens_to_the_meter_inside() {
    let inner = encode(4711, 1, &[series()], &[]).unwrap();
    let frame = DataFrame {
        dev_addr: 0x0102_0304,
        counter: 76_543,
        f_port: 2,
        payload: &inner,
        confirmed: false,
    };
    let hex = hex_lower(&encode_data(&frame, &KEY, &KEY).unwrap());
    let key = "11111111111111111111111111111111";
    let result = ask(&json!({ "hex": hex, "nwk_s_key": key, "app_s_key": key }));
    assert_eq!(result["ok"]["mic_valid"], true);
    assert_eq!(result["ok"]["fcnt"], 76_543);
    assert_eq!(result["ok"]["profile"], "native");
    assert_eq!(result["ok"]["reads"][0]["value"], "1.500");
    let known = ask(&json!({ "hex": hex, "nwk_s_key": key, "counter": 76_543 }));
    assert_eq!(known["ok"]["fcnt"], 76_543);
    assert_eq!(known["ok"]["profile"], "lorawan");
    let other = "22222222222222222222222222222222";
    let wrong = ask(&json!({ "hex": hex, "nwk_s_key": other, "app_s_key": key }));
    assert_eq!(wrong["error"]["code"], "mic_mismatch");
    // Without the network key the MIC is not checked, and nobody says it fits.
    let unchecked = ask(&json!({ "hex": hex, "profile": "lorawan" }));
    assert_eq!(unchecked["ok"].get("mic_valid"), None);
    assert_eq!(unchecked["ok"]["fcnt"], 11_007);
}

#[test]
fn a_join_request_names_its_device() {
    let hex = hex_lower(&encode_join_request(1, 2, 3, &KEY));
    let key = "11111111111111111111111111111111";
    let result = ask(&json!({ "hex": hex, "profile": "lorawan", "app_key": key }));
    assert_eq!(result["ok"]["device"], "dev_eui:0000000000000002");
    assert_eq!(result["ok"]["dev_nonce"], 3);
    assert_eq!(result["ok"]["mic_valid"], true);
}

#[test]
fn every_bad_line_gets_an_answer() {
    let code = |line: &str| -> Value {
        let answer: Value = serde_json::from_str(&answer(line)).unwrap();
        answer["error"]["code"].clone()
    };
    assert_eq!(code(""), "malformed_request");
    assert_eq!(code("{}"), "malformed_request");
    assert_eq!(code(r#"{"hex":"0x12"}"#), "malformed_hex");
    assert_eq!(code(r#"{"hex":"123"}"#), "malformed_hex");
    assert_eq!(code(r#"{"hex":""}"#), "not_recognised");
    assert_eq!(code(r#"{"hex":"00 01"}"#), "not_recognised");
    assert_eq!(code(r#"{"hex":"6810","profile":"abacus"}"#), "unknown_profile");
    assert_eq!(code(r#"{"hex":"6810"}"#), "truncated");
    assert_eq!(code(&format!(r#"{{"hex":"{}"}}"#, "0".repeat(70_000))), "oversized");
    let answer: Value = serde_json::from_str(&answer(r#"{"hex":"6810"}"#)).unwrap();
    assert_eq!(answer["error"]["offset"], 2);
    assert_eq!(answer["error"]["message"], "address needs 7 more bytes");
}

proptest! {
    #[test]
    fn no_line_panics(line in "\\PC{0,120}") {
        let result: Value = serde_json::from_str(&answer(&line)).unwrap();
        prop_assert!(result.is_object());
    }

    #[test]
    fn no_bytes_panic_under_any_profile(bytes in vec(any::<u8>(), 0..150), profile in prop::option::of(prop::sample::select(vec!["native", "cjt188", "lorawan"])), keyed: bool) {
        let mut request = json!({ "hex": hex_lower(&bytes) });
        if let Some(profile) = profile {
            request["profile"] = profile.into();
        }
        if keyed {
            for name in ["key", "nwk_s_key", "app_s_key", "app_key", "f_nwk_s_int_key", "s_nwk_s_int_key"] {
                request[name] = hex_lower(&KEY).into();
            }
        }
        let result = ask(&request);
        prop_assert!(result["ok"].is_object() != result["error"].is_object());
    }
}
