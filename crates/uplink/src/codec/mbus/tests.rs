//! Telegrams built here, opened and read again; and every way they can be wrong.

use super::*;
use crate::profile;
use chrono::NaiveDate;
use model::{Measure, ReadQuality, Register, RegisterValue, Unit};
use proptest::{collection::vec, prelude::*};

const KEY: [u8; 16] = [0x11; 16];
const RADIO: [u8; 8] = [0x24, 0x23, 0x78, 0x56, 0x34, 0x12, 0x01, 0x37];
const METER: [u8; 8] = [0xA5, 0x11, 0x21, 0x43, 0x65, 0x87, 0x30, 0x07];

fn read_plain(bytes: &[u8], key: Option<&[u8; 16]>) -> Result<Decoded, UplinkError> {
    let profile = profile::by_name("wmbus").unwrap();
    decode(bytes, profile, key, &mut FormatMemory::default())
}

fn facts(decoded: &Decoded) -> &Facts {
    let Details::Mbus(facts) = &decoded.details else { panic!("{decoded:?}") };
    facts
}

/// 12.345 m3 now, 9 m3 last month, the clock, forwards and backwards.
fn body() -> Vec<u8> {
    let mut body = Vec::new();
    let volume = RegisterValue::new(12_345, -3, Unit::CubicMetre);
    put_read(&mut body, 0x07, Register::VOLUME, volume).unwrap();
    let month = RegisterValue::new(9, 0, Unit::CubicMetre);
    put_read(&mut body, 0x07, Register::VOLUME.storage(1), month).unwrap();
    let at = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap().and_hms_opt(8, 30, 0).unwrap();
    put_clock(&mut body, at).unwrap();
    let reverse = Register::of(Measure::VolumeReverse);
    put_read(&mut body, 0x07, reverse, RegisterValue::new(1, -3, Unit::CubicMetre)).unwrap();
    body
}

fn telegram<'a>(body: &'a [u8], seal: Seal<'a>) -> encode::Telegram<'a> {
    Telegram { link_address: RADIO, meter_address: Some(METER), access: 7, status: 0, body, seal }
}

fn shown(decoded: &Decoded) -> Vec<String> {
    decoded.reads.iter().map(|r| format!("{} {}", r.register, r.value)).collect()
}

const SHOWN: [&str; 3] = ["volume 12.345 m3", "volume/s1 9 m3", "volume_reverse 0.001 m3"];

#[test]
fn a_telegram_reads_the_same_sealed_and_in_clear() {
    let body = body();
    for (seal, key, protection) in [
        (Seal::None, None, Protection::None),
        (Seal::Mode5(&KEY), Some(&KEY), Protection::Opened),
        (Seal::Mode7(&KEY, 99), Some(&KEY), Protection::Authenticated),
    ] {
        let frame = encode_wireless(&telegram(&body, seal)).unwrap();
        for bytes in [frame.clone(), with_crc_a(&frame), with_crc_b(&frame).unwrap()] {
            let decoded = read_plain(&bytes, key).unwrap();
            assert_eq!(shown(&decoded), SHOWN);
            let address = u64::from_be_bytes(METER);
            assert_eq!(decoded.device, Some(DeviceKey::Mbus(address)));
            assert_eq!(names(&bytes), decoded.device);
            assert!(begins_wireless(&bytes));
            let facts = facts(&decoded);
            assert_eq!((facts.protection, facts.records), (protection, 4));
            assert_eq!(facts.counter, matches!(seal, Seal::Mode7(..)).then_some(99));
            assert_eq!(facts.manufacturer().as_deref(), Some("DME"));
            assert_eq!(facts.identification(), Some(87_654_321));
            let at = decoded.reads.first().unwrap().measured_at.unwrap();
            assert_eq!(at.to_rfc3339(), "2026-03-01T00:30:00+00:00");
        }
    }
}

#[test]
fn an_encrypted_telegram_says_whether_the_key_is_missing_or_wrong() {
    let body = body();
    for seal in [Seal::Mode5(&KEY), Seal::Mode7(&KEY, 99)] {
        let frame = encode_wireless(&telegram(&body, seal)).unwrap();
        assert_eq!(read_plain(&frame, None).unwrap_err().code(), "encrypted");
        assert_eq!(read_plain(&frame, Some(&[0x12; 16])).unwrap_err().code(), "key_mismatch");
    }
    let frame = encode_extended(RADIO, 7, 5, &KEY, &body, false).unwrap();
    assert_eq!(read_plain(&frame, None).unwrap_err().code(), "encrypted");
    assert_eq!(read_plain(&frame, Some(&[0x12; 16])).unwrap_err().code(), "key_mismatch");
}

#[test]
fn a_telegram_opened_once_reads_without_its_key() {
    let body = body();
    let sealed = [
        encode_wireless(&telegram(&body, Seal::Mode5(&KEY))).unwrap(),
        encode_wireless(&telegram(&body, Seal::Mode7(&KEY, 99))).unwrap(),
        encode_extended(RADIO, 7, 5, &KEY, &body, false).unwrap(),
    ];
    for frame in sealed {
        let clear = open(&frame, Some(&KEY)).unwrap().into_frame();
        assert_ne!(clear, frame);
        let decoded = read_plain(&clear, None).unwrap();
        assert_eq!(shown(&decoded), SHOWN);
        assert_eq!(facts(&decoded).protection, Protection::OpenedBefore);
        assert!(read_plain(&clear, Some(&KEY)).is_ok());
    }
}

#[test]
fn nobody_makes_up_a_clear_telegram_of_a_meter_that_signs() {
    let body = body();
    let frame = encode_wireless(&telegram(&body, Seal::Mode7(&KEY, 99))).unwrap();
    let mut clear = open(&frame, Some(&KEY)).unwrap().into_frame();
    let last = clear.len() - 20;
    clear[last] ^= 1;
    assert_eq!(read_plain(&clear, Some(&KEY)).unwrap_err().code(), "key_mismatch");
}

#[test]
fn a_compact_telegram_reads_after_a_full_one() {
    let profile = profile::by_name("wmbus").unwrap();
    let body = body();
    let full = encode_extended(RADIO, 7, 5, &KEY, &body, false).unwrap();
    let compact = encode_extended(RADIO, 8, 6, &KEY, &body, true).unwrap();
    let mut memory = FormatMemory::default();
    let early = decode(&compact, profile, Some(&KEY), &mut memory).unwrap_err();
    assert_eq!(early.code(), "unsupported");
    decode(&full, profile, Some(&KEY), &mut memory).unwrap();
    let decoded = decode(&compact, profile, Some(&KEY), &mut memory).unwrap();
    assert_eq!(shown(&decoded), SHOWN);
}

#[test]
fn a_wired_answer_reads_and_a_flipped_byte_is_refused() {
    let frame = encode_wired(1, METER, 7, 0x04, &body()).unwrap();
    let decoded = read_plain(&frame, None).unwrap();
    assert_eq!(shown(&decoded), SHOWN);
    assert_eq!(decoded.events.first().unwrap().kind, EventKind::BatteryLow);
    assert!(begins_wired(&frame) && !begins_wireless(&frame));
    for at in 4..frame.len() - 2 {
        let mut damaged = frame.clone();
        damaged[at] ^= 0x10;
        assert_eq!(read_plain(&damaged, None).unwrap_err().code(), "checksum_mismatch");
    }
}

#[test]
fn frames_without_data_and_error_reports_are_no_errors() {
    let short = read_plain(&[0x10, 0x5B, 0x01, 0x5C, 0x16], None).unwrap();
    assert_eq!((short.device, short.reads.len()), (None, 0));
    assert_eq!(facts(&short).format.name(), "wired_short");
    let report = [0x68, 4, 4, 0x68, 0x08, 0x01, 0x70, 0x09, 0x82, 0x16];
    let report = read_plain(&report, None).unwrap();
    assert_eq!(facts(&report).error_report, Some(9));
    assert_eq!(report.events.first().unwrap().kind, EventKind::CommandRefused);
}

#[test]
fn a_permanent_error_makes_reads_suspect() {
    let body = body();
    let frame = Telegram { status: 0x08, ..telegram(&body, Seal::None) };
    let decoded = read_plain(&encode_wireless(&frame).unwrap(), None).unwrap();
    assert!(decoded.reads.iter().all(|read| read.quality == ReadQuality::Suspect));
}

#[test]
fn by_radio_a_damaged_end_costs_only_itself() {
    let mut body = body();
    let whole = body.len();
    body.extend_from_slice(&[0x04, 0x13, 1]);
    let frame = encode_wireless(&telegram(&body, Seal::None)).unwrap();
    let decoded = read_plain(&frame, None).unwrap();
    assert_eq!(shown(&decoded), SHOWN);
    // Link 10, transport header 13.
    assert_eq!(facts(&decoded).damaged_at, Some(23 + whole + 3));
    let wired = encode_wired(1, METER, 7, 0, &body).unwrap();
    assert_eq!(read_plain(&wired, None).unwrap_err().code(), "truncated");
}

#[test]
fn a_mode_nobody_opens_is_refused_unless_the_data_make_sense() {
    let body = body();
    let mut frame = encode_wireless(&telegram(&body, Seal::None)).unwrap();
    // Transport header: CI, 8 of address, access, status, configuration.
    frame[22] = 0x18;
    assert_eq!(shown(&read_plain(&frame, None).unwrap()), SHOWN);
    let mut frame = encode_wireless(&telegram(&body, Seal::Mode5(&KEY))).unwrap();
    frame[22] = 0x18;
    assert_eq!(read_plain(&frame, None).unwrap_err().code(), "unsupported");
}

#[test]
fn a_maker_s_own_frame_is_refused_by_name() {
    let error = read_plain(&[11, 0x44, 1, 2, 3, 4, 5, 6, 7, 8, 0xA2, 0], None).unwrap_err();
    assert_eq!(error.to_string(), "manufacturer CI field A2 is not supported");
    assert_eq!(error.offset(), Some(10));
}

fn any_data() -> impl Strategy<Value = Data> {
    let widths = prop::sample::select(vec![1_usize, 2, 3, 4, 6, 8]);
    let digits = prop::sample::select(vec![1_usize, 2, 3, 4, 6]);
    prop_oneof![
        (any::<i64>(), widths).prop_map(|(number, bytes)| {
            let unused = u32::try_from(64 - bytes * 8).unwrap();
            // One above the lowest, which means "no value".
            let lowest = i64::MIN >> unused;
            Data::Signed((number >> unused).max(lowest + 1), bytes)
        }),
        (any::<u64>(), digits, any::<bool>()).prop_map(|(number, bytes, negative)| {
            let digits = u32::try_from(bytes * 2).unwrap();
            let limit = 10_u64.pow(if negative { digits - 1 } else { digits });
            let number = i64::try_from(number % limit).unwrap();
            Data::Digits(if negative { -number } else { number }, bytes)
        }),
        "[ -~]{0,40}".prop_map(Data::Text),
    ]
}

fn value_of(data: &Data) -> Value {
    match data {
        Data::Signed(count, _) | Data::Digits(count, _) => {
            Value::Number { count: *count, exponent: 0 }
        }
        Data::Text(text) => Value::Text(text.clone()),
        Data::Real(_) | Data::Date(_) | Data::DateTime(_) => panic!("not drawn"),
    }
}

proptest! {
    #[test]
    fn records_read_back(data in any_data(), storage in 0_u64..1 << 41, tariff in 0_u32..1 << 20, subunit in 0_u16..1 << 10, function in prop::sample::select(vec![Function::Instantaneous, Function::Maximum, Function::Minimum, Function::Error])) {
        let mut bytes = Vec::new();
        // FD 3A: a plain number without unit.
        let record = NewRecord { function, storage, tariff, subunit, vib: &[0xFD, 0x3A], data };
        put_record(&mut bytes, &record).unwrap();
        let read: Vec<Record<'_>> = Records::new(&bytes, 0).map(Result::unwrap).collect();
        let [read] = read.as_slice() else { panic!("{read:?}") };
        prop_assert_eq!((read.function(), read.storage), (function, storage));
        prop_assert_eq!((read.tariff, read.subunit), (tariff, subunit));
        prop_assert_eq!(read.value(), value_of(&record.data));
    }

    #[test]
    fn registers_read_back(count in prop_oneof![-2_i64..2, -1_000_000..1_000_000_000_000_i64], exponent in -3_i8..=0, channel in 0_u8..4, tariff: u8, storage: u8, access: u8, key: [u8; 16], sealed: bool) {
        let mut body = Vec::new();
        let kinds = [(Measure::Volume, Unit::CubicMetre), (Measure::Flow, Unit::CubicMetrePerHour), (Measure::BatteryVoltage, Unit::Volt)];
        let mut sent = Vec::new();
        for (measure, unit) in kinds {
            let register = Register::of(measure).channel(channel).tariff(tariff).storage(storage);
            let value = RegisterValue::new(count, exponent, unit);
            if put_read(&mut body, 0x07, register, value).is_ok() {
                sent.push((register, value));
            }
        }
        prop_assert_eq!(sent.len(), 2);
        let seal = if sealed { Seal::Mode5(&key) } else { Seal::None };
        let frame = encode_wireless(&Telegram { access, ..telegram(&body, seal) }).unwrap();
        let decoded = read_plain(&with_crc_a(&frame), Some(&key)).unwrap();
        let read: Vec<_> = decoded.reads.iter().map(|r| (r.register, r.value.to_quantity().unwrap())).collect();
        let sent: Vec<_> = sent.iter().map(|(r, v)| (*r, v.to_quantity().unwrap())).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn no_bytes_panic_as_a_telegram(bytes in vec(any::<u8>(), 0..300), key: [u8; 16], with_key: bool) {
        let _read_or_refused = read_plain(&bytes, with_key.then_some(&key));
        let _named = (names(&bytes), begins_wired(&bytes), begins_wireless(&bytes));
    }

    #[test]
    fn no_layers_panic(ci in prop::sample::select(vec![0x72_u8, 0x73, 0x78, 0x79, 0x7A, 0x7B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x70, 0x6E]), rest in vec(any::<u8>(), 0..245), key: [u8; 16], wired: bool) {
        let length = u8::try_from(rest.len() + 10).unwrap();
        let mut bytes = vec![length, 0x44, 1, 2, 3, 4, 5, 6, 7, 8, ci];
        if wired {
            let length = length - 7;
            bytes = vec![0x68, length, length, 0x68, 0x08, 1, ci];
        }
        bytes.extend_from_slice(&rest);
        if wired {
            bytes.extend_from_slice(&[link::sum(&bytes[4..]), 0x16]);
        }
        match open(&bytes, Some(&key)) {
            Ok(opened) => {
                let again = opened.clone().into_frame();
                prop_assert_eq!(open(&again, None).is_ok(), true);
                prop_assert!(opened.body().1 <= bytes.len());
            }
            Err(error) => prop_assert!(error.offset().is_none_or(|offset| offset <= bytes.len())),
        }
        let _read_or_refused = read_plain(&bytes, Some(&key));
    }

    #[test]
    fn a_flipped_bit_of_a_signed_telegram_changes_no_read(at: prop::sample::Index, bit in 0..8_u8) {
        let frame = encode_wireless(&telegram(&body(), Seal::Mode7(&KEY, 99))).unwrap();
        let mut damaged = frame;
        // From the authentication layer on: the link layer has its own checksums. Two bits of the
        // fragmentation control mean nothing to a telegram of one fragment, and are not signed.
        *at.get_mut(&mut damaged[10..]) ^= 1 << bit;
        if let Ok(read) = read_plain(&damaged, Some(&KEY)) {
            prop_assert_eq!(shown(&read), SHOWN);
            prop_assert_eq!(facts(&read).protection, Protection::Authenticated);
        }
    }
}
