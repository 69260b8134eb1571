//! Frames built from the standard's tables, and what they must give; laws over all frames.

use super::*;
use crate::bytes::from_hex;
use crate::profile::{self, Codec, Profile};
use chrono::NaiveDate;
use model::{Measure, Register, RegisterValue, Unit};
use proptest::{collection::vec, prelude::*};

const METER: u64 = 78_330_011_223_344;

fn read(text: &str) -> Result<Decoded, UplinkError> {
    read_as("cjt188", &from_hex(&text.replace(' ', "")).unwrap())
}

fn read_as(name: &str, bytes: &[u8]) -> Result<Decoded, UplinkError> {
    let profile: &'static Profile = profile::by_name(name).unwrap();
    let Codec::Cjt188(settings) = &profile.codec else { panic!("{name} is another codec") };
    decode(bytes, profile, settings)
}

fn facts(decoded: &Decoded) -> Facts {
    let Details::Cjt188(facts) = decoded.details else { panic!("no CJ/T 188 facts") };
    facts
}

fn noon() -> NaiveDateTime {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap().and_hms_opt(12, 0, 0).unwrap()
}

fn m3(count: i64) -> RegisterValue {
    RegisterValue::new(count, -2, Unit::CubicMetre)
}

fn water(reads: &[(Register, RegisterValue)]) -> Answer<'_> {
    Answer {
        meter_type: 0x10,
        address: METER,
        control: 0x81,
        data_identifier: 0x901F,
        length: Some(0x16),
        swapped: false,
        sequence: 7,
        unit_position: UnitPosition::After,
        reads,
        clock: Some(noon()),
        status: 0,
    }
}

fn registers(decoded: &Decoded) -> Vec<(String, String)> {
    decoded.reads.iter().map(|r| (r.register.to_string(), r.value.to_string())).collect()
}

#[test]
fn a_water_meter_answers_with_its_total_and_its_settlement() {
    let settled = Register::VOLUME.storage(1);
    let values = [(Register::VOLUME, m3(55_667_700)), (settled, m3(55_000_000))];
    let bytes = encode_answer(&water(&values)).unwrap();
    assert_eq!(bytes.len(), 4 + 13 + 0x16);
    let decoded = read_as("cjt188-2004", &bytes).unwrap();
    assert_eq!(decoded.device, Some(DeviceKey::Cjt188(METER)));
    let read: Vec<_> = decoded.reads.iter().map(|r| (r.register, r.value)).collect();
    assert_eq!(read, values);
    // The meter's noon is four in the morning UTC.
    let at = decoded.reads.first().unwrap().measured_at.unwrap();
    assert_eq!(at.to_rfc3339(), "2026-03-01T04:00:00+00:00");
    assert_eq!(facts(&decoded).valve, Some(ValveState::Open));
    assert!(decoded.events.is_empty());
}

#[test]
fn identifier_bytes_may_come_swapped_and_units_first() {
    let values = [(Register::VOLUME, m3(1_234)), (Register::VOLUME.storage(1), m3(1_000))];
    for swapped in [false, true] {
        for unit_position in [UnitPosition::After, UnitPosition::Before] {
            let bytes =
                encode_answer(&Answer { swapped, unit_position, ..water(&values) }).unwrap();
            let decoded = read_as("cjt188", &bytes).unwrap();
            assert_eq!(registers(&decoded)[0], ("volume".to_owned(), "12.34 m3".to_owned()));
            assert_eq!(facts(&decoded).swapped, swapped);
            assert_eq!(facts(&decoded).unit_position, Some(unit_position));
            // A profile that leaves no choice refuses the other position.
            let other = if unit_position == UnitPosition::After {
                "cjt188-unit-first"
            } else {
                "cjt188-unit-last"
            };
            let code = read_as(other, &bytes).unwrap_err().code();
            assert!(matches!(code, "unsupported" | "malformed"), "{code}");
        }
    }
}

#[test]
fn heat_meters_of_both_editions_read() {
    let kwh = |count| RegisterValue::new(count, -2, Unit::KilowattHour);
    let celsius = |count| RegisterValue::new(count, -2, Unit::DegreeCelsius);
    let values = [
        (Register::of(Measure::Heat), kwh(123_456)),
        (Register::of(Measure::Heat).storage(1), kwh(120_000)),
        (Register::of(Measure::Power), RegisterValue::new(250, -2, Unit::Kilowatt)),
        (Register::of(Measure::Flow), RegisterValue::new(90, -2, Unit::CubicMetrePerHour)),
        (Register::of(Measure::HeatVolume), m3(4_321)),
        (Register::of(Measure::FlowTemperature), celsius(5_525)),
        (Register::of(Measure::ReturnTemperature), celsius(3_010)),
        (Register::of(Measure::OperatingTime), RegisterValue::new(4_800, 0, Unit::Hour)),
    ];
    for length in [0x2E, 0x2B] {
        let answer = Answer { meter_type: 0x20, length: Some(length), ..water(&values) };
        let decoded = read_as("cjt188-2018", &encode_answer(&answer).unwrap()).unwrap();
        assert_eq!(decoded.reads.len(), values.len(), "L = {length:02X}");
        for (register, value) in &values {
            let found = decoded.reads.iter().find(|read| read.register == *register).unwrap();
            let value = value.to_quantity().unwrap();
            assert_eq!(found.value.to_quantity().unwrap(), value, "{register}");
        }
    }
    // The same frame of a meter that counts cold.
    let cold = [(Register::of(Measure::Cold), kwh(500))];
    let answer = Answer { meter_type: 0x21, length: Some(0x2E), ..water(&cold) };
    let decoded = read_as("cjt188", &encode_answer(&answer).unwrap()).unwrap();
    assert!(registers(&decoded).contains(&("cold".to_owned(), "5.00 kWh".to_owned())));
}

#[test]
fn gas_and_electricity_use_the_same_answer() {
    let values = [(Register::VOLUME, m3(42))];
    let gas = encode_answer(&Answer { meter_type: 0x30, ..water(&values) }).unwrap();
    assert_eq!(registers(&read_as("cjt188", &gas).unwrap())[0].1, "0.42 m3");
    let energy = RegisterValue::new(4_200, -2, Unit::KilowattHour);
    let values = [(Register::of(Measure::EnergyImport), energy)];
    let electricity = encode_answer(&Answer { meter_type: 0x40, ..water(&values) }).unwrap();
    let decoded = read_as("cjt188", &electricity).unwrap();
    assert_eq!(registers(&decoded)[0], ("energy_import".to_owned(), "42.00 kWh".to_owned()));
}

#[test]
fn settlements_and_frozen_values_say_which_they_are() {
    for (identifier, length, storage) in
        [(0xD120, 0x08, 1), (0xD12B, 0x08, 12), (0xD200, 0x08, 1), (0xD2FE, 0x08, 255)]
    {
        let register = Register::VOLUME.storage(storage);
        let values = [(register, m3(99))];
        let answer = Answer { data_identifier: identifier, length: Some(length), ..water(&values) };
        let decoded = read_as("cjt188", &encode_answer(&answer).unwrap()).unwrap();
        let read = decoded.reads.first().unwrap();
        assert_eq!((read.register, read.value, read.measured_at), (register, m3(99), None));
    }
    let values = [(Register::VOLUME, m3(99))];
    let frozen = Answer { data_identifier: 0xD305, length: Some(0x1A), ..water(&values) };
    let decoded = read_as("cjt188", &encode_answer(&frozen).unwrap()).unwrap();
    assert_eq!(registers(&decoded)[0].1, "0.99 m3");
    assert!(decoded.reads.iter().all(|read| read.measured_at.is_some()));
    // Frozen at an instant nobody knows, the values belong nowhere.
    let undated = encode_answer(&Answer { clock: None, ..frozen }).unwrap();
    assert!(read_as("cjt188", &undated).unwrap().reads.is_empty());
}

#[test]
fn a_clock_that_is_no_time_gives_no_time() {
    let values = [(Register::VOLUME, m3(200))];
    let mut bytes = encode_answer(&Answer { clock: None, ..water(&values) }).unwrap();
    let decoded = read_as("cjt188", &bytes).unwrap();
    assert_eq!(decoded.reads.first().unwrap().measured_at, None);
    // 30 February, then digits that are none.
    for (offset, byte) in [(32, 0x30), (33, 0x02), (34, 0x26), (35, 0x20), (31, 0xA7)] {
        bytes[offset] = byte;
        let at = bytes.len() - 2;
        bytes[at] = frame::checksum(&bytes[4..at]);
        let decoded = read_as("cjt188", &bytes).unwrap();
        assert_eq!(decoded.reads.first().unwrap().measured_at, None);
    }
}

#[test]
fn status_bits_mean_what_the_profile_says() {
    let values = [(Register::VOLUME, m3(200))];
    let cases = [
        ("cjt188", 0x0100, Some(ValveState::Closed), vec![EventKind::ValveClosed]),
        ("cjt188", 0x0300, Some(ValveState::Fault), vec![EventKind::ValveFault]),
        ("cjt188", 0x0400, Some(ValveState::Open), vec![EventKind::BatteryLow]),
        ("cjt188", 0x00FF, Some(ValveState::Open), vec![]),
        ("cjt188-mirrored-status", 0x4000, Some(ValveState::Closed), vec![EventKind::ValveClosed]),
        ("cjt188-mirrored-status", 0x2000, Some(ValveState::Open), vec![EventKind::BatteryLow]),
    ];
    for (profile, status, valve, events) in cases {
        let bytes = encode_answer(&Answer { status, ..water(&values) }).unwrap();
        let decoded = read_as(profile, &bytes).unwrap();
        assert_eq!(facts(&decoded).valve, valve, "{profile} {status:04X}");
        let kinds: Vec<_> = decoded.events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, events, "{profile} {status:04X}");
        assert!(decoded.events.iter().all(|event| event.detail == u64::from(status)));
    }
}

#[test]
fn valves_are_told_and_answer() {
    for (action, name) in [
        (ValveAction::Open, "valve_open"),
        (ValveAction::Close, "valve_close"),
        (ValveAction::Vendor(0x66), "valve_release_to_open"),
    ] {
        let bytes = encode_valve_command(0x10, METER, action, 1).unwrap();
        let decoded = read_as("cjt188", &bytes).unwrap();
        let facts = facts(&decoded);
        assert_eq!((facts.kind, facts.action.unwrap().name()), (Kind::Command, name));
        assert_eq!(facts.action.unwrap().code(), action.code());
        assert!(decoded.reads.is_empty() && decoded.events.is_empty());
    }
    let bytes = encode_valve_answer(0x10, METER, 1, 0x0100).unwrap();
    let decoded = read_as("cjt188", &bytes).unwrap();
    assert_eq!(facts(&decoded).valve, Some(ValveState::Closed));
    // A maker's own control code for the same (2A, AA) reads alike.
    let own = encode_frame(0x10, METER, 0x2A, &[0xA0, 0x17, 0, 0x55], false).unwrap();
    let told = facts(&read_as("cjt188", &own).unwrap());
    assert_eq!((told.kind, told.action), (Kind::Command, Some(ValveAction::Open)));
}

#[test]
fn addresses_requests_and_refusals_are_recognised() {
    let asked = read_as("cjt188", &encode_read_request(0xAA, None, 0x810A, 1).unwrap()).unwrap();
    assert_eq!((facts(&asked).kind, asked.device), (Kind::Request, None));
    assert_eq!(facts(&asked).address, WILDCARD);
    let bytes = encode_address_answer(0x10, METER, 1).unwrap();
    let answered = read_as("cjt188", &bytes).unwrap();
    assert_eq!(answered.device, Some(DeviceKey::Cjt188(METER)));
    let bytes = encode_abnormal(0x10, METER, 0x04, 9, 0x0300).unwrap();
    let refused = read_as("cjt188", &bytes).unwrap();
    assert_eq!(facts(&refused).kind, Kind::Abnormal);
    let kinds: Vec<_> = refused.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::CommandRefused, EventKind::ValveFault]);
}

#[test]
fn a_damaged_frame_says_where() {
    let values = [(Register::VOLUME, m3(200))];
    let bytes = encode_answer(&water(&values)).unwrap();
    let mut sum = bytes.clone();
    let at = sum.len() - 2;
    sum[at] ^= 1;
    let error = read_as("cjt188", &sum).unwrap_err();
    assert_eq!((error.code(), error.offset()), ("checksum_mismatch", Some(at)));
    let error = read_as("cjt188", &bytes[..bytes.len() - 1]).unwrap_err();
    assert_eq!((error.code(), error.offset()), ("length_mismatch", Some(14)));
    let error = read_as("cjt188", &bytes[..9]).unwrap_err();
    assert_eq!((error.code(), error.offset()), ("truncated", Some(9)));
    let error = read("FE FE 67 10").unwrap_err();
    assert_eq!((error.code(), error.offset()), ("malformed", Some(2)));
    let mut tail = bytes.clone();
    tail.extend_from_slice(&[0x52, 0x4F]);
    assert_eq!(facts(&read_as("cjt188", &tail).unwrap()).trailing, 2);
    tail.extend_from_slice(&[0; 9]);
    assert_eq!(read_as("cjt188", &tail).unwrap_err().code(), "length_mismatch");
}

#[test]
fn what_is_not_in_the_tables_is_refused_by_name() {
    let other = encode_frame(0x10, METER, 0x81, &[0x12, 0x34, 0], false).unwrap();
    let error = read_as("cjt188", &other).unwrap_err();
    assert_eq!(error.to_string(), "data identifier 1234 is not supported");
    assert_eq!(error.offset(), Some(11));
    let short = encode_frame(0x10, METER, 0x81, &[0x90, 0x1F, 0, 1, 2], false).unwrap();
    assert_eq!(read_as("cjt188", &short).unwrap_err().code(), "length_mismatch");
    let heat = encode_frame(0x55, METER, 0x81, &[0x90, 0x1F, 0, 1, 2], false).unwrap();
    assert_eq!(read_as("cjt188", &heat).unwrap_err().code(), "unsupported");
}

#[test]
fn a_value_the_meter_does_not_have_is_left_out() {
    let mut data = vec![0x90, 0x1F, 0x00];
    data.extend_from_slice(&[0x00, 0x02, 0x00, 0x00, 0x2C]);
    data.extend_from_slice(&[0xFF; 4]);
    data.push(0x2C);
    data.extend_from_slice(&[0; 9]);
    let bytes = encode_frame(0x10, METER, 0x81, &data, false).unwrap();
    let decoded = read_as("cjt188", &bytes).unwrap();
    assert_eq!(registers(&decoded), [("volume".to_owned(), "2.00 m3".to_owned())]);
}

/// A report of the Cat.1 look-alike, by its own table.
fn cat1_report() -> Vec<u8> {
    let mut bytes = vec![0x68, 0x10];
    bytes.extend_from_slice(&[0x04, 0x00, 0x22, 0x08, 0x26, 0x10, 0x00]);
    bytes.extend_from_slice(&[0x03, 0x97, 0, 0, 0, 1, 62]);
    bytes.extend_from_slice(&[0x03, 0x12, 0x34, 0x00, 0x24, 1, 2, 3, 4]);
    bytes.extend_from_slice(&[0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x5F]);
    bytes.extend_from_slice(&[0x89; 10]);
    bytes.extend_from_slice(&[0x0E, 0x10, 0xA3, 0xF9, 0x16, 0, 19, 0, 5, 0xC0, 0x05, 0xA0]);
    bytes.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0x00, 0x21]);
    bytes.extend_from_slice(&[0, 0, 0x03, 0xE9, 0, 0, 0, 7, 0, 0, 0, 8]);
    bytes.extend_from_slice(&[0x26, 0x03, 0x01, 0x12, 0x00, 0x00]);
    let sum = frame::checksum(&bytes);
    bytes.extend_from_slice(&[sum, 0x16]);
    bytes
}

#[test]
fn the_cat1_look_alike_is_recognised_before_it_is_misread() {
    let bytes = cat1_report();
    let decoded = read_as("cjt188", &bytes).unwrap();
    assert_eq!(decoded.profile, "cat1");
    assert_eq!(decoded.device, Some(DeviceKey::Cjt188(102_608_220_004)));
    assert_eq!(registers(&decoded)[0], ("volume".to_owned(), "1001 l".to_owned()));
    let kinds: Vec<_> = decoded.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::ValveClosed, EventKind::BatteryLow]);
    let Details::Cat1(facts) = &decoded.details else { panic!("no Cat.1 facts") };
    assert_eq!(facts.imei, Some(123_456_789_012_345));
    assert_eq!((facts.signal_dbm, facts.reporting_interval_min), (-93, Some(1440)));
    assert_eq!((facts.resolution_litres(), facts.meter_time), (1, Some(noon())));
    let mut damaged = bytes.clone();
    damaged[62] ^= 1;
    assert_eq!(read_as("cjt188", &damaged).unwrap_err().code(), "checksum_mismatch");
    assert_eq!(read_as("cjt188", &bytes[..60]).unwrap_err().code(), "length_mismatch");
    let mut other = bytes;
    other[16] = 0x06;
    let at = other.len() - 2;
    other[at] = frame::checksum(&other[..at]);
    assert_eq!(
        read_as("cjt188", &other).unwrap_err().to_string(),
        "packet type 6 is not supported"
    );
}

/// Every form of the tables, with a meter type and a length it takes.
fn forms() -> Vec<(u8, u8, u16, usize)> {
    table::FORMS
        .iter()
        .filter_map(|form| {
            let meter_type = if form.who == table::Who::Thermal { 0x20 } else { 0x10 };
            Some((meter_type, form.control.unwrap_or(0x81), form.first, form.length?))
        })
        .collect()
}

#[test]
fn every_form_is_as_long_as_its_fields() {
    for form in table::FORMS {
        let fields: Option<usize> = form.fields.iter().map(|field| field.width()).sum();
        if let (Some(fields), Some(length)) = (fields, form.length) {
            assert_eq!(fields + 3, length, "{:04X}", form.first);
        }
    }
}

#[test]
fn every_form_encodes_to_a_frame_that_reads() {
    for (meter_type, control, data_identifier, length) in forms() {
        let answer =
            Answer { meter_type, control, data_identifier, length: Some(length), ..water(&[]) };
        let bytes = encode_answer(&answer).unwrap();
        let decoded = read_as("cjt188", &bytes).unwrap();
        assert_eq!(facts(&decoded).data_identifier, Some(data_identifier));
    }
}

proptest! {
    #[test]
    fn any_total_reads_back(count in 0_i64..100_000_000, settled in 0_i64..100_000_000, address in 0_u64..100_000_000_000_000, status: u16, before: bool, swapped: bool) {
        let values = [(Register::VOLUME, m3(count)), (Register::VOLUME.storage(1), m3(settled))];
        let unit_position = if before { UnitPosition::Before } else { UnitPosition::After };
        let answer = Answer { address, status: u32::from(status), swapped, unit_position, ..water(&values) };
        let profile = if before { "cjt188-unit-first" } else { "cjt188-unit-last" };
        let decoded = read_as(profile, &encode_answer(&answer).unwrap()).unwrap();
        prop_assert_eq!(decoded.device, Some(DeviceKey::Cjt188(address)));
        let read: Vec<_> = decoded.reads.iter().map(|r| (r.register, r.value)).collect();
        prop_assert_eq!(&read, &values);
        prop_assert_eq!(facts(&decoded).status, Some(StatusWord { raw: u32::from(status), bytes: 2 }));
    }

    #[test]
    fn a_flipped_bit_is_refused(count in 0_i64..100_000_000, position: prop::sample::Index, bit in 0..8_u8) {
        let values = [(Register::VOLUME, m3(count))];
        let bytes = encode_answer(&water(&values)).unwrap();
        let mut body = bytes[4..].to_vec();
        *position.get_mut(&mut body) ^= 1 << bit;
        prop_assert!(read_as("cjt188", &body).is_err());
    }

    #[test]
    fn no_bytes_panic_as_a_frame(bytes in vec(any::<u8>(), 0..200)) {
        let _refused_or_read = read_as("cjt188", &bytes).is_ok();
        let _named = names(&bytes);
        prop_assert!(frame(&bytes).is_err() || bytes.len() >= 13);
    }

    #[test]
    fn no_data_in_a_whole_frame_panic(meter_type: u8, control: u8, data in vec(any::<u8>(), 0..200), form in prop::sample::select(forms()), like_a_form: bool) {
        let (mut meter_type, mut control, mut data) = (meter_type, control, data);
        if like_a_form {
            (meter_type, control) = (form.0, form.1);
            data.resize(form.3, 0x11);
            data[..2].copy_from_slice(&form.2.to_be_bytes());
        }
        let bytes = encode_frame(meter_type, METER, control, &data, true).unwrap();
        for profile in profile::ALL.iter().filter(|p| p.name.starts_with("cjt188")) {
            if let Err(error) = read_as(profile.name, &bytes) {
                prop_assert!(error.offset().is_some_and(|offset| offset <= bytes.len()), "{error}");
            }
        }
    }

    #[test]
    fn no_bytes_panic_as_a_cat1_report(tail in vec(any::<u8>(), 0..90)) {
        let mut bytes = cat1_report();
        bytes.truncate(16);
        bytes.extend_from_slice(&tail);
        if let Some(length) = u8::try_from(tail.len()).ok().and_then(|l| l.checked_sub(2)) {
            bytes[15] = length;
            let at = bytes.len() - 2;
            bytes[at] = frame::checksum(&bytes[..at]);
            bytes[at + 1] = 0x16;
        }
        let _refused_or_read = read_as("cjt188", &bytes).is_ok();
    }
}
