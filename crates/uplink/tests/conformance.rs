//! Frames and events of others, with the values they are known to hold.
//!
//! In: the folder named by `TIDEMARK_VECTORS`, or the one beside this repository when it is there.
//! Out: per family how many rows are right, rightly refused, wrong, and not yet decoded; any wrong
//! row fails. Never here: copies of those rows, which belong to their owners.

#[cfg(test)]
mod conformance {
    use chrono::DateTime;
    use rust_decimal::Decimal;
    use serde_json::{Map, Value, json};
    use std::path::{Path, PathBuf};
    use uplink::{Network, ndjson, transport};

    /// What became of one row.
    enum Outcome {
        Right,
        RightlyRefused,
        Wrong(String),
        NotYet,
    }

    /// How a family's rows are checked.
    type Check = fn(&Value) -> Outcome;

    #[derive(Default)]
    struct Tally {
        rows: u32,
        right: u32,
        refused: u32,
        not_yet: u32,
        wrong: Vec<String>,
    }

    impl Tally {
        fn add(&mut self, id: &str, outcome: Outcome) {
            self.rows += 1;
            match outcome {
                Outcome::Right => self.right += 1,
                Outcome::RightlyRefused => self.refused += 1,
                Outcome::NotYet => self.not_yet += 1,
                Outcome::Wrong(why) => self.wrong.push(format!("{id}: {why}")),
            }
        }
    }

    fn folder() -> Option<PathBuf> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
        let named = std::env::var_os("TIDEMARK_VECTORS").map(PathBuf::from);
        let folder = named.unwrap_or_else(|| PathBuf::from(beside));
        folder.is_dir().then_some(folder)
    }

    fn rows(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).expect("a row is one JSON object"))
            .collect()
    }

    /// The fields of an `ok` answer, or the error's code.
    fn decode(request: &Value) -> Result<Map<String, Value>, String> {
        let answer: Value = serde_json::from_str(&ndjson::answer(&request.to_string())).unwrap();
        match answer.get("ok") {
            Some(Value::Object(fields)) => Ok(fields.clone()),
            _ => Err(answer["error"]["code"].as_str().expect("an error has a code").to_owned()),
        }
    }

    /// The value of a register in the base unit of the row's names: litres become cubic metres.
    fn register(fields: &Map<String, Value>, name: &str) -> Option<Decimal> {
        let reads = fields.get("reads")?.as_array()?;
        let read = reads.iter().find(|read| read["register"] == name)?;
        let value: Decimal = read["value"].as_str()?.parse().ok()?;
        match read["unit"].as_str()? {
            "l" => value.checked_mul(Decimal::new(1, 3)),
            _ => Some(value),
        }
    }

    fn same(expected: &Value, found: Option<&Value>) -> bool {
        match (expected, found) {
            (Value::Null, None | Some(Value::Null)) => true,
            (Value::Number(wanted), Some(Value::Number(got))) => wanted.as_f64() == got.as_f64(),
            (Value::String(wanted), Some(Value::String(got))) => wanted.eq_ignore_ascii_case(got),
            (wanted, Some(got)) => wanted == got,
            (_, None) => false,
        }
    }

    /// Names in the rows, and the registers that hold the same.
    const REGISTERS: &[(&str, &str)] = &[
        ("current_m3", "volume"),
        ("settlement_m3", "volume/s1"),
        ("forward_m3", "volume"),
        ("reverse_m3", "volume_reverse"),
        ("flow_m3h", "flow"),
    ];

    fn cjt188(row: &Value) -> Outcome {
        let expected = row["expected"].as_object().expect("a row says what it expects");
        let answer = decode(&json!({ "hex": row["frame_hex"] }));
        let damaged = row["checksum_ok"] == false || expected.contains_key("error");
        let fields = match answer {
            Err(code) if damaged => {
                let named = matches!(code.as_str(), "checksum_mismatch" | "length_mismatch");
                return if named { Outcome::RightlyRefused } else { Outcome::Wrong(code) };
            }
            Err(code) => return Outcome::Wrong(format!("refused: {code}")),
            Ok(_) if damaged => return Outcome::Wrong("taken although it is damaged".to_owned()),
            Ok(fields) => fields,
        };
        for (name, value) in expected {
            let register_name = REGISTERS.iter().find(|(known, _)| known == name).map(|(_, r)| *r);
            let name = match name.as_str() {
                // The row's own words for the same thing.
                "status_raw" => "status",
                "protocol" | "meter_no" | "manufacturer" if value.is_object() => continue,
                other => other,
            };
            let right = match register_name {
                Some(register_name) => {
                    register(&fields, register_name) == value.to_string().parse().ok()
                }
                None if name == "protocol" => {
                    value.as_str().is_some_and(|text| text.starts_with("CAT-1"))
                        && fields.get(name) == Some(&"CAT-1".into())
                }
                None => same(value, fields.get(name)),
            };
            if !right {
                return Outcome::Wrong(format!("{name}: want {value}, got {:?}", fields.get(name)));
            }
        }
        if row["kind"] != fields["kind"] {
            return Outcome::Wrong(format!("kind: want {}, got {}", row["kind"], fields["kind"]));
        }
        Outcome::Right
    }

    fn lorawan_phy(row: &Value) -> Outcome {
        let mut request = row.as_object().expect("a row is an object").clone();
        request.insert("hex".to_owned(), row["phy_hex"].clone());
        request.insert("profile".to_owned(), "lorawan".into());
        let expected = row["expected"].as_object().expect("a row says what it expects");
        let fields = match decode(&Value::Object(request)) {
            Err(code) if expected.get("mic_valid") == Some(&Value::Bool(false)) => {
                return if code == "mic_mismatch" {
                    Outcome::RightlyRefused
                } else {
                    Outcome::Wrong(code)
                };
            }
            Err(code) => return Outcome::Wrong(format!("refused: {code}")),
            Ok(fields) => fields,
        };
        for (name, value) in expected {
            let found = fields.get(name);
            // A frame without payload has nothing to open.
            let nothing = value == "" && found.is_none();
            if !nothing && !same(value, found) {
                return Outcome::Wrong(format!("{name}: want {value}, got {found:?}"));
            }
        }
        if row["mtype"] == fields["mtype"] {
            Outcome::Right
        } else {
            Outcome::Wrong("mtype".to_owned())
        }
    }

    /// Every key of the first name found, whatever its place: the test reads the event's own text.
    fn find<'v>(event: &'v Value, path: &[&str]) -> Option<&'v Value> {
        path.iter().try_fold(event, |value, key| value.get(key))
    }

    fn first<'v>(event: &'v Value, paths: &[&[&str]]) -> Option<&'v Value> {
        paths.iter().find_map(|path| find(event, path))
    }

    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
        let bits: Vec<bool> =
            digits.flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1)).collect();
        bits.chunks_exact(8)
            .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
            .collect()
    }

    fn event(row: &Value) -> Outcome {
        let event = &row["event"];
        let received_at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let opened = transport::open_event("", event.to_string().as_bytes(), received_at);
        let payload =
            first(event, &[&["data"], &["phyPayload"], &["uplink_message", "frm_payload"]]);
        let ours = ["chirpstack", "thingsstack", "gateway-bridge", "http"]
            .iter()
            .any(|name| row["integration"].as_str().unwrap().to_lowercase().starts_with(name));
        let envelopes = match opened {
            Err(error) if !ours && error.code() == "unsupported" => return Outcome::NotYet,
            Err(error) => return Outcome::Wrong(error.to_string()),
            Ok(envelopes) => envelopes,
        };
        // Joins, acks, statistics, commands: known, and no uplink.
        let Some(payload) = payload.filter(|_| ours) else {
            return match envelopes.as_slice() {
                [] if ours || row["integration"] == "semtech-udp" => Outcome::Right,
                [] => Outcome::NotYet,
                _ => Outcome::Wrong("an uplink where there is none".to_owned()),
            };
        };
        let [envelope] = envelopes.as_slice() else {
            return Outcome::Wrong(format!("{} envelopes instead of one", envelopes.len()));
        };
        if envelope.payload != base64(payload.as_str().unwrap()) {
            return Outcome::Wrong("payload".to_owned());
        }
        if envelope.network == Network::LorawanRaw {
            return if envelope.device.is_none() && envelope.radio.gateway.is_some() {
                Outcome::Right
            } else {
                Outcome::Wrong("gateway".to_owned())
            };
        }
        let eui =
            first(event, &[&["deviceInfo", "devEui"], &["devEUI"], &["end_device_ids", "dev_eui"]]);
        let eui = eui.and_then(Value::as_str).expect("an uplink names its device");
        let eui = if eui.len() == 16 {
            eui.to_lowercase()
        } else {
            base64(eui).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let counter = first(event, &[&["fCnt"], &["uplink_message", "f_cnt"]]);
        let port = first(event, &[&["fPort"], &["uplink_message", "f_port"]]);
        let time = first(event, &[&["uplink_message", "received_at"], &["time"], &["received_at"]]);
        let time = time.and_then(Value::as_str).and_then(|text| {
            DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
        });
        let findings = [
            ("device", envelope.device.unwrap().to_string() == format!("dev_eui:{eui}")),
            (
                "counter",
                envelope.counter.map(u64::from) == Some(counter.map_or(0, |c| c.as_u64().unwrap())),
            ),
            ("port", envelope.f_port.map(u64::from) == port.and_then(Value::as_u64)),
            ("time", time.is_none() || envelope.network_time_ms == time),
            ("radio", envelope.radio.rssi_dbm.is_some()),
        ];
        match findings.iter().find(|(_, right)| !right) {
            None => Outcome::Right,
            Some((name, _)) => Outcome::Wrong(format!("{name} of {envelope:?}")),
        }
    }

    #[test]
    fn frames_and_events_of_others_read_as_their_owners_say() {
        let Some(folder) = folder() else {
            println!("no vectors here: set TIDEMARK_VECTORS to run them");
            return;
        };
        let mut wrong = Vec::new();
        let mut report = |family: &str, tally: Tally| {
            println!(
                "{family:<16} rows {:>4}  right {:>4}  rightly refused {:>3}  wrong {:>3}  not yet decoded {:>4}",
                tally.rows,
                tally.right,
                tally.refused,
                tally.wrong.len(),
                tally.not_yet
            );
            wrong.extend(tally.wrong.into_iter().map(|row| format!("{family}: {row}")));
        };
        let families: &[(&str, Check)] = &[
            ("cjt188", cjt188),
            ("lorawan-phy", lorawan_phy),
            ("dlt645", |_| Outcome::NotYet),
            // M-Bus has a test of its own, mbus.rs.
            ("lwm2m", |_| Outcome::NotYet),
            ("lorawan-devices", |_| Outcome::NotYet),
        ];
        for (family, check) in families {
            let mut tally = Tally::default();
            for row in rows(&folder.join(format!("{family}.jsonl"))) {
                tally.add(row["id"].as_str().unwrap_or("row without id"), check(&row));
            }
            report(family, tally);
        }
        let mut tally = Tally::default();
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("events"))
            .map(|files| files.flatten().map(|file| file.path()).collect())
            .unwrap_or_default();
        files.sort();
        for file in files {
            let row: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            tally.add(row["id"].as_str().unwrap_or_default(), event(&row));
        }
        report("events", tally);
        assert!(wrong.is_empty(), "{} wrong rows:\n{}", wrong.len(), wrong.join("\n"));
    }
}
