//! Every frame of the story, opened as ingest opens it.

use super::*;
use crate::{plan::Plan, registry_file};
use model::{
    InstalledMeter, InstantPeriod, LorawanSession, MeterEntry, MeterId, RegistrySnapshot,
    ServicePointId,
};
use std::collections::{BTreeMap, HashMap};

fn snapshot(utility: &Utility) -> RegistrySnapshot {
    let file = registry_file(utility);
    let models: HashMap<_, _> = file.meter_models.iter().map(|m| (m.code.as_str(), m)).collect();
    let installed: HashMap<_, _> =
        file.installed_meters.iter().map(|i| (i.meter.as_str(), i)).collect();
    let entry = |(number, meter): (u32, &store_postgres::RegisteredMeter)| {
        let (model, place) = (models[meter.model.as_str()], installed[meter.number.as_str()]);
        let during = InstantPeriod::new(place.from, place.until).unwrap();
        MeterEntry {
            meter: MeterId::new(number),
            devices: meter.devices.clone(),
            profile: model.profile.clone(),
            key: meter.key.clone().map(|key| key.0),
            lorawan: meter.lorawan.as_ref().map(|session| LorawanSession {
                dev_addr: session.dev_addr.0,
                nwk_s_key: session.nwk_s_key.0.clone(),
                app_s_key: session.app_s_key.0.clone(),
            }),
            register_digits: model.register_digits,
            register_exponent: model.register_exponent,
            register_unit: model.register_unit,
            hourly_max: model.hourly_max,
            pulse_weight: None,
            installed: vec![InstalledMeter { service_point: ServicePointId::new(number), during }],
        }
    };
    RegistrySnapshot::new((0..).zip(&file.meters).map(entry).collect()).unwrap()
}

#[test]
fn every_frame_of_the_story_reads_as_the_books_expect() {
    let utility = Utility::new(3, "2026-09".parse().unwrap());
    let snapshot = snapshot(&utility);
    let now = utility.months.instant(utility.end() + 24);
    let mut counters: HashMap<MeterId, u32> = HashMap::new();
    let mut read: BTreeMap<(u32, i64), i64> = BTreeMap::new();
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    let plan = Plan::new(&utility);
    // A fifth of the meters, the replaced one, its replacement and those that roll over.
    let looked_at = |index: u32| index.is_multiple_of(5) || [3, 64, 181].contains(&index);
    for sending in plan.on(0..plan.days()) {
        if let What::Frame { meter, .. } = sending.what
            && !looked_at(meter)
        {
            continue;
        }
        let envelopes = match message(&utility, sending.what).unwrap() {
            Message::Coap { query, payload } => vec![Envelope {
                device: query.map(|query| query.strip_prefix("d=").unwrap().parse().unwrap()),
                network: Network::NbIot,
                payload,
                f_port: None,
                counter: None,
                received_at_ms: now.timestamp_millis(),
                network_time_ms: None,
                dedup: None,
                radio: Radio::default(),
                source: "coap".to_owned(),
            }],
            Message::Mqtt { topic, body } => match transport::open_event(&topic, &body, now) {
                Ok(envelopes) => envelopes,
                Err(error) => {
                    *rejected.entry(error.code().to_owned()).or_default() += 1;
                    continue;
                }
            },
        };
        assert_eq!(envelopes.len(), 1);
        let envelope = &envelopes[0];
        let decoded = uplink::identify(envelope, &snapshot).and_then(|entry| {
            let opened = uplink::open(envelope, entry, counters.get(&entry.meter).copied())?;
            if let Some(counter) = opened.counter {
                let highest = counters.entry(entry.meter).or_insert(counter);
                *highest = counter.max(*highest);
            }
            let profile = uplink::profile::by_name(&entry.profile).unwrap();
            Ok((entry.meter.number(), uplink::decode(&opened, profile, now)?))
        });
        match decoded {
            Ok((meter, decoded)) => {
                assert!(matches!(sending.what, What::Frame { .. }), "{:?}", sending.what);
                for value in decoded.reads.iter().filter(|r| r.register == Register::VOLUME) {
                    let at = value.measured_at.unwrap().timestamp();
                    let known = read.insert((meter, at), value.value.count);
                    assert!(known.is_none_or(|known| known == value.value.count));
                }
            }
            Err(error) => *rejected.entry(error.code().to_owned()).or_default() += 1,
        }
    }
    let books = crate::expected(&utility, 0..plan.days());
    assert_eq!(rejected, books.rejected);
    // Every meter has every hour it was installed for, and each shows what the litres say.
    let mut hours = 0;
    for (number, meter) in (0..).zip(&utility.meters).filter(|(number, _)| looked_at(*number)) {
        for hour in meter.from..=meter.last {
            let at = utility.months.instant(hour).timestamp();
            let count = meter.count_at(hour).map(|count| i64::try_from(count).unwrap());
            assert_eq!(read.get(&(number, at)).copied(), count, "{} hour {hour}", meter.number);
            hours += 1;
        }
    }
    assert_eq!(read.len(), hours);
}

#[test]
fn no_meter_passes_more_than_it_can() {
    for seed in 0..5 {
        let utility = Utility::new(seed, "2026-09".parse().unwrap());
        let models = registry_file(&utility).meter_models;
        for meter in &utility.meters {
            let model = models.iter().find(|m| m.calibre_mm == Some(meter.calibre_mm)).unwrap();
            for hour in meter.from..meter.last {
                let counts = meter.usage_counts(hour, hour + 1).unwrap();
                let scale = u32::from(meter.way.exponent().unsigned_abs());
                let used = rust_decimal::Decimal::new(i64::try_from(counts).unwrap(), scale);
                assert!(used <= model.hourly_max, "{} hour {hour}: {used}", meter.number);
            }
        }
    }
}
