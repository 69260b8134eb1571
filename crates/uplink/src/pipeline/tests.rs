//! From envelope to reads: who sent it, is it whole, does it count.

use super::*;
use crate::codec::cjt188::{Answer, UnitPosition, encode_answer};
use crate::codec::native::{Series, encode, encode_sealed};
use crate::phy::{DataFrame, encode_data};
use crate::{EnvelopeError, Radio};
use model::{LorawanSession, MeterId, Register, RegisterValue, SecretKey, Unit};
use proptest::{collection::vec, prelude::*};
use rust_decimal::Decimal;

const KEY: [u8; 16] = [3; 16];
const METER: u64 = 78_330_011_223_344;

fn entry(meter: u32, devices: &[DeviceKey], profile: &str) -> MeterEntry {
    MeterEntry {
        meter: MeterId::new(meter),
        devices: devices.to_vec(),
        profile: profile.to_owned(),
        key: None,
        lorawan: None,
        register_digits: 8,
        register_exponent: -3,
        register_unit: Unit::CubicMetre,
        hourly_max: Decimal::from(5),
        pulse_weight: None,
        installed: Vec::new(),
    }
}

fn on_air(meter: u32, nwk: u8, app: u8, profile: &str) -> MeterEntry {
    let session = LorawanSession {
        dev_addr: 0x0102_0304,
        nwk_s_key: SecretKey::new([nwk; 16]),
        app_s_key: SecretKey::new([app; 16]),
    };
    MeterEntry {
        lorawan: Some(session),
        ..entry(meter, &[DeviceKey::DevEui(u64::from(meter))], profile)
    }
}

fn envelope(network: Network, payload: Vec<u8>) -> Envelope {
    Envelope {
        device: None,
        network,
        payload,
        f_port: None,
        counter: None,
        received_at_ms: 0,
        network_time_ms: None,
        dedup: None,
        radio: Radio::default(),
        source: "test".to_owned(),
    }
}

fn native(counter: u32, key: Option<&[u8; 16]>) -> Vec<u8> {
    let series = Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: DateTime::from_timestamp(1_772_323_200, 0).unwrap(),
        step_s: 3600,
        counts: &[1000, 1010],
        suspect: false,
    };
    match key {
        Some(key) => encode_sealed(4711, counter, &[series], &[], key).unwrap(),
        None => encode(4711, counter, &[series], &[]).unwrap(),
    }
}

/// A CJ/T 188 answer; without a clock its reads are undated.
fn water(dated: bool) -> Vec<u8> {
    let values = [(Register::VOLUME, RegisterValue::new(200, -2, Unit::CubicMetre))];
    let clock = DateTime::from_timestamp(1_772_323_200, 0).unwrap().naive_utc();
    encode_answer(&Answer {
        meter_type: 0x10,
        address: METER,
        control: 0x81,
        data_identifier: 0x901F,
        length: None,
        swapped: false,
        sequence: 0,
        unit_position: UnitPosition::After,
        reads: &values,
        clock: dated.then_some(clock),
        status: 0,
    })
    .unwrap()
}

fn raw(counter: u32, payload: &[u8], nwk: u8, app: u8) -> Envelope {
    let frame = DataFrame { dev_addr: 0x0102_0304, counter, f_port: 2, payload, confirmed: false };
    envelope(Network::LorawanRaw, encode_data(&frame, &[nwk; 16], &[app; 16]).unwrap())
}

fn through(
    envelope: &Envelope,
    snapshot: &RegistrySnapshot,
    last: Option<u32>,
) -> Result<(MeterId, Opened, Decoded), UplinkError> {
    let entry = identify(envelope, snapshot)?;
    let opened = open(envelope, entry, last)?;
    let profile = profile::by_name(&entry.profile).unwrap();
    let decoded = decode(&opened, profile, DateTime::UNIX_EPOCH)?;
    Ok((entry.meter, opened, decoded))
}

#[test]
fn a_payload_names_its_meter_where_the_transport_does_not() {
    let snapshot = RegistrySnapshot::new(vec![
        entry(1, &[DeviceKey::Serial(4711)], "native"),
        entry(2, &[DeviceKey::Cjt188(METER)], "cjt188-2004"),
        entry(3, &[DeviceKey::Imei(1)], "cjt188-2004"),
    ])
    .unwrap();
    let (meter, _, decoded) =
        through(&envelope(Network::NbIot, native(1, None)), &snapshot, None).unwrap();
    assert_eq!((meter, decoded.reads.len()), (MeterId::new(1), 2));
    let mut bare = envelope(Network::NbIot, water(true));
    let (meter, _, decoded) = through(&bare, &snapshot, None).unwrap();
    assert_eq!((meter, decoded.reads.len()), (MeterId::new(2), 2));
    // The module's name counts, not the address behind it, where the transport gives one.
    bare.device = Some(DeviceKey::Imei(1));
    assert_eq!(through(&bare, &snapshot, None).unwrap().0, MeterId::new(3));
    bare.device = Some(DeviceKey::Imei(2));
    let error = through(&bare, &snapshot, None).unwrap_err();
    assert_eq!(error.to_string(), "no meter is registered for device imei:000000000000002");
    let nobody = envelope(Network::NbIot, vec![1, 2, 3]);
    assert_eq!(through(&nobody, &snapshot, None).unwrap_err().code(), "unnamed_device");
}

#[test]
fn a_meter_with_a_key_must_seal_and_be_itself() {
    let keyed = MeterEntry {
        key: Some(SecretKey::new(KEY)),
        ..entry(1, &[DeviceKey::Serial(4711)], "native")
    };
    let open = |payload| open(&envelope(Network::NbIot, payload), &keyed, Some(10));
    let opened = open(native(11, Some(&KEY))).unwrap();
    assert_eq!((opened.counter, opened.order), (Some(11), CounterOrder::Next));
    assert_eq!(open(native(11, None)).unwrap_err().code(), "seal_missing");
    assert_eq!(open(native(11, Some(&[4; 16]))).unwrap_err().code(), "seal_mismatch");
    let other = MeterEntry { devices: vec![DeviceKey::Serial(7)], ..keyed.clone() };
    let error = super::open(&envelope(Network::NbIot, native(11, Some(&KEY))), &other, None);
    assert_eq!(error.unwrap_err().code(), "device_mismatch");
    let unkeyed = MeterEntry { key: None, ..keyed.clone() };
    let error = super::open(&envelope(Network::NbIot, native(11, Some(&KEY))), &unkeyed, None);
    assert_eq!(error.unwrap_err().code(), "key_missing");
}

#[test]
fn a_late_frame_counts_when_the_meter_dates_it_and_a_restarted_counter_does_not() {
    let keyed = MeterEntry {
        key: Some(SecretKey::new(KEY)),
        ..entry(1, &[DeviceKey::Serial(4711)], "native")
    };
    let snapshot = RegistrySnapshot::new(vec![keyed]).unwrap();
    let late = envelope(Network::NbIot, native(9, Some(&KEY)));
    let (_, opened, decoded) = through(&late, &snapshot, Some(10)).unwrap();
    assert_eq!((opened.order, decoded.reads.len()), (CounterOrder::Late, 2));
    let (_, opened, _) = through(&late, &snapshot, Some(9)).unwrap();
    assert_eq!(opened.order, CounterOrder::Same);
    let error = through(&late, &snapshot, Some(5000)).unwrap_err();
    assert_eq!(error, UplinkError::Replayed { counter: 9, last: 5000 });
}

#[test]
fn a_replay_of_undated_reads_is_refused() {
    let snapshot = RegistrySnapshot::new(vec![on_air(1, 1, 2, "cjt188-2004")]).unwrap();
    let undated = raw(70_000, &water(false), 1, 2);
    let (_, opened, decoded) = through(&undated, &snapshot, Some(69_000)).unwrap();
    assert_eq!(opened.counter, Some(70_000));
    assert_eq!(decoded.reads.first().unwrap().measured_at, None);
    let error = through(&undated, &snapshot, Some(70_000)).unwrap_err();
    assert_eq!(error, UplinkError::Replayed { counter: 70_000, last: 70_000 });
    let dated = raw(70_000, &water(true), 1, 2);
    assert_eq!(through(&dated, &snapshot, Some(70_001)).unwrap().1.order, CounterOrder::Late);
}

#[test]
fn the_mic_tells_meters_of_one_address_apart() {
    let snapshot = RegistrySnapshot::new(vec![
        on_air(1, 1, 2, "cjt188-2004"),
        on_air(2, 3, 4, "cjt188-2004"),
        on_air(3, 5, 6, "native"),
    ])
    .unwrap();
    for (meter, nwk, app, payload) in
        [(1, 1, 2, water(true)), (2, 3, 4, water(true)), (3, 5, 6, native(1, None))]
    {
        let frame = raw(1_000_000, &payload, nwk, app);
        let (found, opened, decoded) = through(&frame, &snapshot, None).unwrap();
        assert_eq!((found, opened.payload), (MeterId::new(meter), payload));
        assert_eq!(decoded.reads.len(), 2);
    }
    let stranger = raw(1, &water(true), 9, 9);
    assert_eq!(identify(&stranger, &snapshot).unwrap_err().code(), "mic_mismatch");
    let alone = RegistrySnapshot::new(vec![on_air(1, 1, 2, "native")]).unwrap();
    assert_eq!(through(&stranger, &alone, None).unwrap_err().code(), "mic_mismatch");
    let none = RegistrySnapshot::default();
    assert_eq!(identify(&stranger, &none).unwrap_err().code(), "unknown_device");
}

#[test]
fn a_frame_without_payload_is_a_sign_of_life() {
    let snapshot = RegistrySnapshot::new(vec![on_air(1, 1, 2, "native")]).unwrap();
    let (_, _, decoded) = through(&raw(5, &[], 1, 2), &snapshot, None).unwrap();
    assert!(decoded.reads.is_empty() && decoded.events.is_empty());
    let mut server = envelope(Network::LorawanServer, Vec::new());
    server.device = Some(DeviceKey::DevEui(1));
    assert!(through(&server, &snapshot, None).unwrap().2.reads.is_empty());
    // Over CoAP nothing is nothing.
    let empty = envelope(Network::NbIot, Vec::new());
    assert_eq!(through(&empty, &snapshot, None).unwrap_err().code(), "unnamed_device");
}

#[test]
fn a_wrong_application_key_is_noticed_by_the_codec_only() {
    let snapshot = RegistrySnapshot::new(vec![on_air(1, 1, 2, "cjt188-2004")]).unwrap();
    let error = through(&raw(5, &water(true), 1, 99), &snapshot, None).unwrap_err();
    assert!(matches!(error.code(), "malformed" | "truncated" | "length_mismatch"), "{error}");
}

#[test]
fn a_meter_with_an_unknown_profile_is_named() {
    let odd = entry(1, &[DeviceKey::Serial(4711)], "abacus");
    let error = open(&envelope(Network::NbIot, native(1, None)), &odd, None).unwrap_err();
    assert_eq!(error.to_string(), "profile \"abacus\" is unknown");
}

proptest! {
    #[test]
    fn no_envelope_panics_on_its_way(bytes in vec(any::<u8>(), 0..120), network in 0..4_u8, named: bool, last: Option<u32>, head in prop::sample::select(vec![vec![], vec![0x40, 4, 3, 2, 1], vec![0xD1, 1], vec![0xD1, 0], vec![0x68, 0x10]])) {
        let network = match network {
            0 => Network::NbIot,
            1 => Network::LorawanServer,
            2 => Network::LorawanRaw,
            _ => Network::Platform,
        };
        let keyed = MeterEntry { key: Some(SecretKey::new(KEY)), ..entry(2, &[DeviceKey::Serial(1)], "native") };
        let snapshot = RegistrySnapshot::new(vec![on_air(1, 1, 2, "cjt188"), on_air(3, 1, 2, "native"), keyed]).unwrap();
        let mut frame = envelope(network, [head, bytes].concat());
        frame.device = named.then_some(DeviceKey::DevEui(1));
        let _found = through(&frame, &snapshot, last).is_ok();
        for entry in snapshot.meters() {
            if let Ok(opened) = open(&frame, entry, last) {
                for profile in profile::ALL {
                    let _decoded = decode(&opened, profile, DateTime::UNIX_EPOCH).is_ok();
                }
            }
        }
        prop_assert_ne!(Envelope::decode(&frame.encode()), Err(EnvelopeError::Empty));
    }
}
