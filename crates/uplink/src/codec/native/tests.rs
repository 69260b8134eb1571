//! The frame of the specification, and laws over all frames.

use super::*;
use crate::bytes::from_hex;
use crate::profile::NATIVE;
use crate::{Decoded, UplinkError};
use chrono::{DateTime, Utc};
use model::{DeviceKey, EventKind, Measure, ReadQuality, Register, RegisterValue, Unit};
use proptest::{collection::vec, prelude::*};

const SPECIFICATION: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/native-frame.md"));

const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn read(bytes: &[u8]) -> Result<Decoded, UplinkError> {
    decode(bytes, false, &NATIVE)
}

fn read_sealed(bytes: &[u8], key: &[u8; 16]) -> Result<Decoded, UplinkError> {
    decode(&unseal(bytes, key)?, true, &NATIVE)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// The example of the specification.
fn example() -> (Series<'static>, EventOut) {
    let midnight = at(1_772_323_200);
    let series = Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: midnight,
        step_s: 3600,
        counts: &[123_456, 123_468, 123_468, 123_473],
        suspect: false,
    };
    (series, EventOut { kind: EventKind::BatteryLow, at: at(1_772_330_400), detail: 2_950 })
}

/// The bytes under a heading of the specification.
fn written(heading: &str) -> Vec<u8> {
    let after = SPECIFICATION.split_once(heading).expect("the heading is there").1;
    let block = after.split("```").nth(1).expect("a block of bytes follows");
    let digits: String = block
        .lines()
        .skip(1)
        .map(|line| line.split_once('#').map_or(line, |(bytes, _)| bytes))
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    from_hex(&digits).expect("the block holds hex digits")
}

#[test]
fn the_specification_shows_the_frames_we_read() {
    let (series, event) = example();
    let clear = encode(4711, 42, &[series], &[event]).unwrap();
    assert_eq!(written("### Clear"), clear, "clear frame: {clear:02x?}");
    let sealed = encode_sealed(4711, 42, &[series], &[event], &KEY).unwrap();
    assert_eq!(written("### Sealed"), sealed, "sealed frame: {sealed:02x?}");
    let decoded = read(&clear).unwrap();
    assert_eq!(decoded.device, Some(DeviceKey::Serial(4711)));
    let last = decoded.reads.last().unwrap();
    assert_eq!(last.value.to_string(), "123.473 m3");
    assert_eq!(last.measured_at.unwrap().to_rfc3339(), "2026-03-01T03:00:00+00:00");
    assert_eq!(decoded.events.first().unwrap().kind, EventKind::BatteryLow);
    let opened = read_sealed(&sealed, &KEY).unwrap();
    assert_eq!((opened.reads, opened.events), (decoded.reads, decoded.events));
}

#[test]
fn the_specification_lists_every_code() {
    for measure in Measure::ALL {
        let row = format!("| {} | `{}` |", *measure as u8, measure.name());
        assert!(SPECIFICATION.contains(&row), "measure {row} is missing");
    }
    for unit in Unit::ALL {
        let row = format!("| {} | {} |", unit.code(), unit.symbol());
        assert!(SPECIFICATION.contains(&row), "unit {row} is missing");
    }
    for event in EventKind::ALL {
        let row = format!("| {} | `{}` |", *event as u8, event.name());
        assert!(SPECIFICATION.contains(&row), "event {row} is missing");
    }
}

#[test]
fn a_day_of_hourly_reads_fits_two_hundred_bytes() {
    // Household flow of up to 3 m3/h in litres, seven-digit counter, a late serial number.
    let counts: Vec<i64> = (0..24).map(|hour| 9_876_543 + hour * 2_900).collect();
    let (series, event) = example();
    let series = Series { counts: &counts, ..series };
    let frame = encode_sealed(u64::from(u32::MAX), 1_000_000, &[series], &[event], &KEY).unwrap();
    assert!(frame.len() < 200, "{} bytes", frame.len());
    assert_eq!(read_sealed(&frame, &KEY).unwrap().reads.len(), 24);
}

#[test]
fn a_frame_says_what_is_wrong_with_it() {
    let (series, event) = example();
    let clear = encode(4711, 42, &[series], &[event]).unwrap();
    let sealed = encode_sealed(4711, 42, &[series], &[event], &KEY).unwrap();
    let code = |bytes: &[u8]| read(bytes).unwrap_err().code();
    assert_eq!(code(&[]), "truncated");
    assert_eq!(code(&clear[..clear.len() - 1]), "checksum_mismatch");
    assert_eq!(code(&[0xD2, 0, 1, 1]), "malformed");
    assert_eq!(code(&[0xD1, 2, 1, 1]), "malformed");
    assert_eq!(code(&sealed), "key_missing");
    assert_eq!(code(&[0xD1; 1025]), "oversized");
    assert_eq!(unseal(&clear, &KEY).unwrap_err().code(), "seal_missing");
    assert_eq!(unseal(&sealed, &[7; 16]).unwrap_err().code(), "seal_mismatch");
    assert_eq!(unseal(&sealed[..9], &KEY).unwrap_err().code(), "truncated");
    // A frame with right checksum and a measure nobody knows.
    let mut other = clear[..clear.len() - 4].to_vec();
    let measure = other.windows(4).position(|w| w == [1, 0, 0, 0]).unwrap();
    other[measure] = 250;
    let sum = crc32c::crc32c(&other);
    other.extend_from_slice(&sum.to_le_bytes());
    let error = read(&other).unwrap_err();
    assert_eq!(error.to_string(), "measure FA is not supported");
    assert_eq!(error.offset(), Some(measure));
}

#[test]
fn a_count_of_reads_beyond_the_frame_reserves_nothing() {
    let (series, _) = example();
    let series = Series { counts: &[1], ..series };
    let clear = encode(1, 1, &[series], &[]).unwrap();
    let mut frame = clear[..clear.len() - 6].to_vec();
    frame.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]);
    let sum = crc32c::crc32c(&frame);
    frame.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(read(&frame).unwrap_err().code(), "length_mismatch");
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let (series, _) = example();
    let none = Series { counts: &[], ..series };
    assert_eq!(encode(1, 1, &[none], &[]), Err(EncodeError::Count("reads")));
    let many = vec![0; READS_MAX + 1];
    let many = Series { counts: &many, ..series };
    assert_eq!(encode(1, 1, &[many], &[]), Err(EncodeError::Count("reads")));
    let steep: Vec<i64> = (0..200).map(|i| i * 1_000_000_000_000).collect();
    let steep = Series { counts: &steep, ..series };
    assert!(matches!(encode(1, 1, &[steep], &[]), Err(EncodeError::TooLong { got: 1025.. })));
    let apart = Series { counts: &[i64::MIN, i64::MAX], ..series };
    assert_eq!(encode(1, 1, &[apart], &[]), Err(EncodeError::OutOfRange));
}

prop_compose! {
    fn any_series()(
        measure in prop::sample::select(Measure::ALL),
        (channel, tariff, storage) in any::<(u8, u8, u8)>(),
        unit in prop::sample::select(Unit::ALL),
        exponent in -12_i8..=12,
        start in 0_i64..4_000_000_000,
        step_s in 0_u32..100_000,
        counts in vec(-1_000_000_000_i64..1_000_000_000, 1..30),
        suspect: bool,
    ) -> (Register, Unit, i8, i64, u32, Vec<i64>, bool) {
        (Register { measure, channel, tariff, storage }, unit, exponent, start, step_s, counts, suspect)
    }
}

proptest! {
    #[test]
    fn any_frame_reads_back(serial: u64, counter: u32, series in vec(any_series(), 0..4), events in vec((prop::sample::select(EventKind::ALL), 0_i64..4_000_000_000, any::<u64>()), 0..4), key: [u8; 16]) {
        let out: Vec<Series<'_>> = series.iter().map(|(register, unit, exponent, start, step_s, counts, suspect)| Series {
            register: *register, unit: *unit, exponent: *exponent, start: at(*start), step_s: *step_s, counts, suspect: *suspect,
        }).collect();
        let events: Vec<EventOut> = events.into_iter().map(|(kind, seconds, detail)| EventOut { kind, at: at(seconds), detail }).collect();
        let clear = read(&encode(serial, counter, &out, &events).unwrap()).unwrap();
        let sealed = read_sealed(&encode_sealed(serial, counter, &out, &events, &key).unwrap(), &key).unwrap();
        prop_assert_eq!(clear.device, Some(DeviceKey::Serial(serial)));
        prop_assert_eq!(&clear.reads, &sealed.reads);
        prop_assert_eq!(&clear.events, &sealed.events);
        let mut reads = clear.reads.iter();
        for series in &out {
            let mut seconds = series.start.timestamp();
            for count in series.counts {
                let read = reads.next().unwrap();
                prop_assert_eq!(read.register, series.register);
                prop_assert_eq!(read.value, RegisterValue::new(*count, series.exponent, series.unit));
                prop_assert_eq!(read.measured_at, Some(at(seconds)));
                prop_assert_eq!(read.quality == ReadQuality::Suspect, series.suspect);
                seconds += i64::from(series.step_s);
            }
        }
        prop_assert!(reads.next().is_none());
        prop_assert_eq!(clear.events.len(), events.len());
    }

    #[test]
    fn a_flipped_bit_is_refused(position: prop::sample::Index, bit in 0..8_u8) {
        let (series, event) = example();
        let mut clear = encode(4711, 42, &[series], &[event]).unwrap();
        *position.get_mut(&mut clear) ^= 1 << bit;
        prop_assert!(read(&clear).is_err());
        let mut sealed = encode_sealed(4711, 42, &[series], &[event], &KEY).unwrap();
        *position.get_mut(&mut sealed) ^= 1 << bit;
        prop_assert!(read_sealed(&sealed, &KEY).is_err());
    }

    #[test]
    fn no_bytes_panic_as_a_frame(mut bytes in vec(any::<u8>(), 0..200), key: [u8; 16]) {
        if let [magic, flags, ..] = bytes.as_mut_slice() {
            *magic = MAGIC_V1;
            *flags &= 1;
        }
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read_sealed(&bytes, &key).is_err());
        // The same as the inside of a seal that fits.
        if let Err(error) = decode(&bytes, true, &NATIVE) {
            prop_assert!(error.offset().is_none_or(|offset| offset <= bytes.len()), "{error}");
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let _refused_or_read = read(&bytes).is_ok();
    }
}
