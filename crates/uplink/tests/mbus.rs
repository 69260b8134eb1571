//! M-Bus telegrams of others, with the values they are known to hold.
//!
//! In: the folder named by `TIDEMARK_VECTORS`, or the one beside this repository when it is there.
//! Out: per kind of row how many are right; any wrong row beyond what is written here fails.
//! Never here: copies of those rows, which belong to their owners.

#[cfg(test)]
mod vectors {
    use rust_decimal::Decimal;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use uplink::codec::mbus::{self, Facts, FormatMemory};
    use uplink::{Decoded, Details, UplinkError, ndjson, profile};

    fn rows(name: &str) -> Vec<Value> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
        let named = std::env::var_os("TIDEMARK_VECTORS").map(PathBuf::from);
        let path = named.unwrap_or_else(|| PathBuf::from(beside)).join(name);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.is_empty() {
            println!("no {name} here: set TIDEMARK_VECTORS to run it");
        }
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a row is a JSON object"))
            .collect()
    }

    fn bytes(hex: &str) -> Option<Vec<u8>> {
        let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    fn decode(row: &Value, field: &str) -> Result<Decoded, UplinkError> {
        let profile = profile::by_name("wmbus").expect("it is one of ours");
        let key = row["key"].as_str().and_then(bytes).and_then(|key| key.try_into().ok());
        let mut memory = FormatMemory::default();
        for previous in row["previous_telegrams"].as_array().into_iter().flatten() {
            let previous = bytes(previous.as_str().expect("hex")).expect("hex");
            let _taught = mbus::decode(&previous, profile, key.as_ref(), &mut memory);
        }
        let frame = bytes(row[field].as_str().expect("hex")).ok_or(UplinkError::NotRecognised)?;
        mbus::decode(&frame, profile, key.as_ref(), &mut memory)
    }

    fn facts(decoded: &Decoded) -> &Facts {
        let Details::Mbus(facts) = &decoded.details else { panic!("{decoded:?}") };
        facts
    }

    /// A number of a row, exactly as written there.
    fn number(value: &Value) -> Option<Decimal> {
        let text = value.as_number()?.to_string();
        text.parse().ok().or_else(|| Decimal::from_scientific(&text).ok())
    }

    /// The value of the first of these registers that is there, in m3 or kWh.
    fn total(decoded: &Decoded, names: &[&str]) -> Option<Decimal> {
        let read = names.iter().find_map(|name| {
            decoded.reads.iter().find(|read| read.register.to_string() == *name)
        })?;
        let quantity = read.value.to_quantity().expect("a total fits");
        match quantity.unit.symbol() {
            "MWh" => quantity.value.checked_mul(Decimal::from(1_000)),
            "GJ" => quantity.value.checked_mul(Decimal::from(1_000_000))?.checked_div(3_600.into()),
            "MJ" => quantity.value.checked_mul(Decimal::from(1_000))?.checked_div(3_600.into()),
            _ => Some(quantity.value),
        }
    }

    /// Rows round to six decimals.
    fn near(wanted: Decimal, got: Option<Decimal>) -> bool {
        got.and_then(|got| got.checked_sub(wanted))
            .is_some_and(|difference| difference.abs() <= Decimal::new(1, 6))
    }

    /// What is wrong with the totals of this row, if anything is.
    fn wrong_totals(row: &Value, decoded: &Decoded) -> Option<String> {
        let volume = total(decoded, &["volume", "heat_volume"]);
        let energy = total(decoded, &["energy_import", "heat", "cold"]);
        let totals = row["generic"]["totals"].as_object()?;
        totals.iter().find_map(|(name, wanted)| {
            let wanted = number(wanted).expect("a total is a number");
            let (wanted, got) = match name.as_str() {
                "m3" => (wanted, volume),
                "mj" => (wanted.checked_div(Decimal::new(36, 1)).expect("not zero"), energy),
                _ => (wanted, energy),
            };
            (!near(wanted, got)).then(|| format!("{name}: want {wanted}, got {got:?}"))
        })
    }

    #[test]
    fn totals_of_others_telegrams_are_right() {
        let mut tally: BTreeMap<String, (u32, u32, u32)> = BTreeMap::new();
        let mut wrong = Vec::new();
        for row in rows("wmbusmeters.jsonl") {
            let id = row["id"].as_str().expect("a row has an id");
            let class = row["generic"]["cls"].as_str().expect("a row has a class");
            let result = decode(&row, "telegram_hex");
            let entry = tally.entry(class.to_owned()).or_default();
            entry.0 += 1;
            let finding = match (&result, row["valid"].as_bool()) {
                (Ok(_), Some(false)) => Some("taken although it is wrong".to_owned()),
                (Err(_), Some(false)) => None,
                (Err(error), _) if class.starts_with("generic") => Some(error.to_string()),
                (Err(error), _) => {
                    println!("{id} ({class}): {error}");
                    entry.2 += 1;
                    continue;
                }
                (Ok(decoded), _) if class.starts_with("generic-total") => {
                    wrong_totals(&row, decoded)
                }
                (Ok(decoded), _) => {
                    let wanted = &row["expected"];
                    let volume =
                        ["total_m3", "total_volume_m3"].iter().find_map(|n| number(&wanted[n]));
                    let energy = number(&wanted["total_energy_consumption_kwh"]);
                    let got = total(decoded, &["volume", "heat_volume"]);
                    let got_energy = total(decoded, &["energy_import", "heat", "cold"]);
                    let records = wanted["records"].as_u64();
                    let count = u64::try_from(facts(decoded).records).expect("few");
                    match (volume, energy, records) {
                        (Some(volume), ..) if !near(volume, got) => {
                            Some(format!("want {volume} m3, got {got:?}"))
                        }
                        (_, Some(energy), _) if !near(energy, got_energy) => {
                            Some(format!("want {energy} kWh, got {got_energy:?}"))
                        }
                        (.., Some(records)) if records != count => {
                            Some(format!("want {records} records, got {count}"))
                        }
                        _ => None,
                    }
                }
            };
            match finding {
                None => entry.1 += 1,
                Some(why) => wrong.push(format!("{id} ({class}): {why}")),
            }
        }
        for (class, (rows, right, refused)) in &tally {
            println!("{class:<28} rows {rows:>3}  right {right:>3}  refused {refused:>3}");
        }
        let (bearing, rest): (Vec<_>, Vec<_>) =
            wrong.iter().partition(|row| row.contains("generic-total") || row.contains("(extra)"));
        println!(
            "not as a driver reads it:\n{}",
            rest.into_iter().cloned().collect::<Vec<_>>().join("\n")
        );
        assert!(bearing.is_empty(), "{bearing:#?}");
    }

    #[test]
    fn wired_frames_of_others_have_as_many_records() {
        let mut counts = (0, 0, 0);
        let mut wrong = Vec::new();
        for row in rows("mbus-wired.jsonl") {
            let id = row["id"].as_str().expect("a row has an id");
            let result = decode(&row, "frame_hex");
            match (result, row["expected"]["records"].as_array()) {
                (Ok(decoded), Some(records)) => {
                    counts.0 += 1;
                    let got = facts(&decoded).records;
                    if got != records.len() {
                        wrong.push(format!("{id}: want {} records, got {got}", records.len()));
                    }
                }
                (Err(_), None) => counts.1 += 1,
                (Err(error), Some(_)) => wrong.push(format!("{id}: {error}")),
                (Ok(_), None) => wrong.push(format!("{id}: taken although it is wrong")),
            }
            counts.2 += 1;
        }
        let (right, refused, rows) = counts;
        println!("mbus-wired: {rows} rows, {right} decoded, {refused} rightly refused, {wrong:#?}");
        assert!(wrong.is_empty());
    }

    #[test]
    fn nobody_has_to_name_the_profile() {
        let files = [("wmbusmeters.jsonl", "telegram_hex"), ("mbus-wired.jsonl", "frame_hex")];
        let mut wrong = Vec::new();
        for (file, field) in files {
            for mut row in rows(file) {
                let decoded = decode(&row, field).is_ok();
                let hex = row[field].take();
                let key = row["key"].take();
                let previous = row["previous_telegrams"].as_array().cloned().unwrap_or_default();
                let request = json!({ "hex": hex, "key": key, "previous_telegrams": previous });
                let answer = ndjson::answer(&request.to_string());
                if answer.starts_with("{\"ok\"") != decoded {
                    wrong.push(format!("{}: {answer}", row["id"]));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
