//! What should not come in: refused by name, counted, kept, and nothing else lost.
//!
//! In: wrong frames, requests, settings and files; databases that are away. Out: pass or fail.
//! Never here: which bytes a codec refuses (see `uplink`), parts of ours that die (`faults`).

use crate::{
    frames::{self, at},
    house::{PATIENCE, Scratch, ask, counter, tidemark, until},
    rig::{ADDRESS, APP_S_KEY, DEV_ADDR, IMEI, KEY, LORA_SERIAL, NWK_S_KEY, Rig, SERIAL},
};
use chrono::{DateTime, Utc};
use model::DeviceKey;
use std::path::Path;
use uplink::{Envelope, Network, Radio, phy, transport};

const START: &str = "2025-02-28T16:00:00Z";
const END: &str = "2025-03-31T16:00:00Z";

/// How a wrong uplink comes, and what must be said of it.
struct Wrong {
    by: Way,
    code: &'static str,
    says: &'static str,
}

enum Way {
    Coap(Option<&'static str>, Vec<u8>),
    Broker(String, Vec<u8>),
}

impl Wrong {
    fn coap(
        device: Option<&'static str>,
        frame: Vec<u8>,
        code: &'static str,
        says: &'static str,
    ) -> Self {
        Self { by: Way::Coap(device, frame), code, says }
    }

    fn bytes(&self) -> &[u8] {
        match &self.by {
            Way::Coap(_, bytes) | Way::Broker(_, bytes) => bytes,
        }
    }
}

fn wrong_uplinks(rig: &Rig) -> Vec<Wrong> {
    let noon = at("2025-03-10T04:00:00Z");
    let sealed = |counter, read, key| frames::native(SERIAL, counter, read, Some(key));
    let cjt188 = |sequence| frames::cjt188(ADDRESS, sequence, noon, 55);
    let cut = |mut frame: Vec<u8>, bytes| {
        frame.truncate(bytes);
        frame
    };
    let spoilt = |mut frame: Vec<u8>| {
        let checksum = frame.len() - 2;
        frame[checksum] ^= 0x55;
        frame
    };
    let longer = |mut frame: Vec<u8>| {
        // L announces three bytes more than there are.
        let length = frame.iter().position(|byte| *byte == 0x68).unwrap() + 10;
        frame[length] += 3;
        frame
    };
    let stranger = "imei:867512070000001";
    let wrong_mic = lora(rig, 50, noon, &[0xEE; 16]);
    let garbage = b"{\"deviceInfo\": {\"devEui\": ".to_vec();
    vec![
        Wrong::coap(
            Some(stranger),
            frames::cjt188(99_990_000_000_001, 1, noon, 5),
            "unknown_device",
            "no meter is registered for device imei:867512070000001",
        ),
        Wrong::coap(Some(IMEI), sealed(50, (noon, 5), &[1; 16]), "seal_mismatch", "seal"),
        Wrong::coap(None, cut(cjt188(50), 20), "length_mismatch", "35 announced, 16 found"),
        Wrong::coap(None, longer(cjt188(51)), "length_mismatch", "38 announced, 35 found"),
        Wrong::coap(None, spoilt(cjt188(52)), "checksum_mismatch", "checksum is"),
        Wrong::coap(
            Some(IMEI),
            sealed(51, (at("2001-01-01T00:00:00Z"), 5), &KEY),
            "absurd_time",
            "meter 1",
        ),
        Wrong::coap(
            Some(IMEI),
            sealed(52, (at("2095-01-01T00:00:00Z"), 5), &KEY),
            "future_time",
            "meter 1",
        ),
        Wrong::coap(None, vec![0xFF; 900], "unnamed_device", ""),
        Wrong { by: Way::Broker(wrong_mic.0, wrong_mic.1), code: "mic_mismatch", says: "" },
        Wrong {
            by: Way::Broker(rig.application_topic("0102030405060708"), garbage),
            code: "malformed_json",
            says: "column",
        },
    ]
}

/// A gateway bridge's event with a frame of the LoRaWAN meter under this network key.
fn lora(
    rig: &Rig,
    counter: u32,
    read_at: DateTime<Utc>,
    nwk_s_key: &[u8; 16],
) -> (String, Vec<u8>) {
    let payload = frames::native(LORA_SERIAL, counter, (read_at, 5), None);
    let frame = phy::DataFrame {
        dev_addr: DEV_ADDR,
        counter,
        f_port: 2,
        payload: &payload,
        confirmed: false,
    };
    let envelope = Envelope {
        device: None::<DeviceKey>,
        network: Network::LorawanRaw,
        payload: phy::encode_data(&frame, nwk_s_key, &APP_S_KEY).unwrap(),
        f_port: None,
        counter: None,
        received_at_ms: read_at.timestamp_millis(),
        network_time_ms: Some(read_at.timestamp_millis()),
        dedup: None,
        radio: Radio { gateway: Some(rig.lora_gateway()), ..Radio::default() },
        source: "tests".to_owned(),
    };
    transport::encode_gateway_bridge_v4_up(&envelope)
}

#[test]
fn a_wrong_frame_is_refused_by_name_kept_and_counted_and_the_right_ones_are_stored() {
    let rig = Rig::start("frames");
    let (coap, broker) =
        (rig.gateway.fact("coap"), crate::house::variable("TIDEMARK_TEST_MQTT_URL"));
    let metrics = rig.ingest.fact("metrics");
    let right = |counter: u32, when, count: i64| {
        let sequence = counter.to_le_bytes()[0];
        let sealed = frames::native(SERIAL, counter, (at(when), count), Some(&KEY));
        assert_eq!(frames::post(&coap, Some(IMEI), &sealed), "");
        let cjt188 = frames::cjt188(ADDRESS, sequence, at(when), count / 10);
        assert_eq!(frames::post(&coap, None, &cjt188), "");
        frames::publish(&broker, &[lora(&rig, counter, at(when), &NWK_S_KEY)]);
    };
    right(1, START, 1_000);
    let wrong = wrong_uplinks(&rig);
    let wrong_in_all = wrong.len() as u64;
    for uplink in &wrong {
        match &uplink.by {
            // The gateway keeps what it cannot read: it is no judge of frames.
            Way::Coap(device, frame) => assert_eq!(frames::post(&coap, *device, frame), ""),
            Way::Broker(topic, body) => frames::publish(&broker, &[(topic.clone(), body.clone())]),
        }
    }
    right(100, END, 24_000);
    until("all have come to their end", PATIENCE, || {
        let [received, ..] = rig.counts();
        (received >= 6 + wrong_in_all).then_some(())
    });
    assert_eq!(rig.counts(), [6 + wrong_in_all, 6, 0, wrong_in_all]);

    let query = "SELECT reason, message, hex(raw) AS raw, source FROM dead_letters FINAL";
    let letters = rig.rows(query);
    assert_eq!(letters.len(), wrong.len(), "{letters:#?}");
    for uplink in &wrong {
        let raw: String = uplink.bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        let is_it = |letter: &&serde_json::Value| {
            let raw_is_in = letter["raw"].as_str().unwrap().contains(&raw);
            // What a network server wraps is kept unwrapped, as an envelope.
            let unwrapped = matches!(uplink.code, "mic_mismatch");
            letter["reason"] == uplink.code && (raw_is_in || unwrapped)
        };
        let letter = letters.iter().find(is_it);
        let letter = letter.unwrap_or_else(|| panic!("{}: {raw}\n{letters:#?}", uplink.code));
        let message = letter["message"].as_str().unwrap();
        assert!(!message.is_empty() && message.contains(uplink.says), "{message}");
        let label = format!("reason=\"{}\"", uplink.code);
        let counted = counter(&metrics, "tidemark_ingest_dead_letters_total", &label);
        let same = wrong.iter().filter(|other| other.code == uplink.code).count() as u64;
        assert_eq!(counted, Some(same), "{}", uplink.code);
    }
    an_account_without_a_tariff_is_held_and_the_run_goes_on(&rig);
}

fn an_account_without_a_tariff_is_held_and_the_run_goes_on(rig: &Rig) {
    let run = ask(&mut rig.tidemark(&["bill", "run", "--cycle", "2025-03", "--json"])).ended(&[3]);
    let report: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert_eq!(
        (report["billed"].as_u64(), report["held"].as_u64()),
        (Some(1), Some(1)),
        "{report}"
    );
    assert_eq!(report["held_by_reason"]["missing_tariff"], 1, "{report}");
    assert_eq!(report["balances"], true, "{report}");
    let working = ["bill", "explain", "--account", "A1", "--cycle", "2025-03"];
    let working = ask(&mut rig.tidemark(&working)).ended(&[0]);
    // 23 m3: 20 at 1.62, 3 at 2.43.
    assert!(working.contains("39.69"), "{working}");
    for (account, cycle, says) in
        [("A2", "2025-03", "A2"), ("A9", "2025-03", "A9"), ("A1", "2031-07", "2031-07")]
    {
        let explain = ["bill", "explain", "--account", account, "--cycle", cycle];
        let answer = ask(&mut rig.tidemark(&explain));
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains(says), "{answer:?}");
    }
    let unknown = ask(&mut rig.tidemark(&["bill", "run", "--cycle", "2031-07"]));
    assert!(unknown.code == Some(1) && unknown.err.contains("2031-07"), "{unknown:?}");
}

#[test]
fn a_request_that_is_no_uplink_is_answered_with_what_is_wrong() {
    let rig = Rig::start("coap");
    let at = rig.gateway.fact("coap");
    let metrics = rig.gateway.fact("metrics");
    let frame = frames::cjt188(ADDRESS, 1, at_noon(), 5);
    let cases: &[(String, Vec<u8>, &str, &str)] = &[
        (format!("coap://{at}/down"), frame.clone(), "4.04", "uplinks go to /up"),
        (format!("coap://{at}/up"), Vec::new(), "4.00", "the payload is empty"),
        (format!("coap://{at}/up"), vec![7; 5_000], "4.13", "at most 1024 bytes"),
        (format!("coap://{at}/up?d=phone:1"), frame.clone(), "4.00", "phone:1"),
    ];
    for (url, payload, code, says) in cases {
        let answer = frames::coap(url, payload);
        assert!(answer.contains(code) && answer.contains(says), "{url}: {answer:?}");
    }
    let requests =
        |outcome| counter(&metrics, "tidemark_coap_gateway_requests_total", outcome).unwrap();
    assert!(requests("outcome=\"refused\"") >= 4);
    assert_eq!(requests("outcome=\"stored\""), 0);
    assert_eq!(frames::post(&at, None, &frame), "");
    until("the right one is stored", PATIENCE, || (rig.counts() == [1, 1, 0, 0]).then_some(()));
    assert_eq!(requests("outcome=\"stored\""), 1);
}

fn at_noon() -> DateTime<Utc> {
    at("2025-03-10T04:00:00Z")
}

#[test]
fn a_database_that_is_away_is_waited_for_and_nothing_is_lost() {
    let rig = Rig::start("away");
    let coap = rig.gateway.fact("coap");
    let metrics = rig.ingest.fact("metrics");
    let send = |counter: u8| {
        let frame = frames::cjt188(ADDRESS, counter, at_noon(), 5 + i64::from(counter));
        let frame = match counter {
            1 => frame,
            hour => frames::cjt188(
                ADDRESS,
                hour,
                at_noon() + chrono::TimeDelta::hours(hour.into()),
                5 + i64::from(hour),
            ),
        };
        assert_eq!(frames::post(&coap, None, &frame), "");
    };
    send(1);
    until("the first is stored", PATIENCE, || (rig.counts() == [1, 1, 0, 0]).then_some(()));

    rig.clickhouse.cut();
    send(2);
    send(3);
    until("ingest tries again and again", PATIENCE, || {
        (counter(&metrics, "tidemark_ingest_store_retries_total", "")? >= 2).then_some(())
    });
    assert_eq!(rig.counts(), [1, 1, 0, 0]);
    let run = ask(&mut rig.tidemark(&["bill", "run", "--cycle", "2025-03"]));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("read"), "which side is away: {run:?}");
    rig.clickhouse.mend();
    until("all are stored", PATIENCE, || (rig.counts() == [3, 3, 0, 0]).then_some(()));

    rig.postgres.cut();
    send(4);
    until("the last registry serves on", PATIENCE, || (rig.counts() == [4, 4, 0, 0]).then_some(()));
    let run = ask(&mut rig.tidemark(&["bill", "run", "--cycle", "2025-03"]));
    assert_eq!(run.code, Some(1), "{run:?}");
    let address = rig.postgres.at.to_string();
    assert!(run.err.contains("[postgres] url") && run.err.contains(&address), "{run:?}");
    rig.postgres.mend();
    let run = ask(&mut rig.tidemark(&["bill", "run", "--cycle", "2025-03", "--json"]));
    run.ended(&[3]);
}

#[test]
fn a_wrong_file_or_setting_is_refused_by_name() {
    let scratch = Scratch::new("files");
    let home = scratch.path();
    let registry = r#"{"schedules": [{"code": "X", "organisation": "JM", "name": "X",
        "commodity": "water", "versions": [{"from": "2025-01-01", "document": "d",
        "file": "nowhere.toml"}]}]}"#;
    scratch.write("registry.json", registry);
    scratch.write("empty.toml", "");
    scratch.write("half.toml", "title = \"half a tariff\n");
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("lingering = 5", &["check-config"], &["case.toml", "lingering"]),
        ("[ingest]\nlinger_s = 5", &["check-config"], &["case.toml", "linger_s", "line 2"]),
        ("[coap_gateway]\nlisten = \"here:5683\"", &["check-config"], &["case.toml", "line 2"]),
        ("[coap_gateway]\nmqtt_url = \"http://b\"", &["check-config"], &["mqtt://", "line 2"]),
        ("[ingest]\nmqtt_url = \"http://b\"", &["check-config"], &["mqtt_url", "mqtt://"]),
        ("[ingest]\nlinger_ms = \"soon\"", &["check-config"], &["linger_ms", "line 2"]),
        ("utc_offset_minutes = 99999", &["check-config"], &["utc_offset_minutes"]),
        ("[clickhouse]\nurl = \"nowhere\"", &["books"], &["nowhere"]),
        ("[registry]\nmaster_key_file = \"/no/key\"", &["ingest"], &["master_key_file", "/no/key"]),
        ("", &["registry", "import", "{home}/registry.json"], &["nowhere.toml"]),
        ("", &["registry", "import", "{home}/none.json"], &["none.json"]),
        ("", &["rate", "--ndjson", "--schedule", "{home}/none.toml"], &["none.toml"]),
        ("", &["rate", "--ndjson", "--schedule", "{home}/half.toml"], &["half.toml", "line 1"]),
        ("", &["rate", "--ndjson", "--schedule", "{home}/empty.toml"], &["empty.toml"]),
        ("", &["decode", "68zz"], &["hex"]),
        ("", &["replay-events", "{home}/none.json"], &["none.json"]),
    ];
    for (settings, args, says) in cases {
        let config = scratch.write("case.toml", settings);
        let answer = refused(&config, home, args);
        for word in *says {
            assert!(answer.contains(word), "{args:?} with {settings:?}: no {word:?} in {answer:?}");
        }
    }
    let missing = refused(&home.join("missing.toml"), home, &["check-config"]);
    assert!(missing.contains("missing.toml"), "{missing}");
}

/// What an errand that must fail says.
fn refused(config: &Path, home: &Path, args: &[&str]) -> String {
    let home = home.to_str().unwrap();
    let args = args.iter().map(|arg| arg.replace("{home}", home));
    let mut command = tidemark([Path::new("--config"), config]);
    let answer = ask(command.args(args));
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(!answer.err.contains("panicked"), "{answer:#?}");
    format!("{}{}", answer.out, answer.err)
}
