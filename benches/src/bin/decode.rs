//! Frames per second and core, by codec: `cargo run --release -p benches --bin decode`.
//!
//! In: frames built by our own encoders. Out: one line of figures per codec.
//! Never here: sockets.

use benches::measure;
use chrono::{DateTime, Utc};
use model::{Register, RegisterValue, Unit};
use uplink::{
    Envelope, Network, Radio,
    codec::{
        cjt188::{self, UnitPosition},
        native,
    },
    phy, profile,
};

const TIMES: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at: DateTime<Utc> = "2026-09-01T00:00:00Z".parse()?;
    let counts: Vec<i64> = (0..24).map(|hour| 123_456 + hour * 17).collect();
    let series = native::Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: at,
        step_s: 3600,
        counts: &counts,
        suspect: false,
    };
    let one = native::Series { counts: counts.get(..1).unwrap_or_default(), ..series };
    let key = [7_u8; 16];
    let clear = native::encode(4711, 1, &[one], &[])?;
    let clear_day = native::encode(4711, 1, &[series], &[])?;
    let sealed = native::encode_sealed(4711, 1, &[one], &[], &key)?;
    let sealed_day = native::encode_sealed(4711, 1, &[series], &[], &key)?;
    for (name, frame) in
        [("native, clear, 1 read", &clear), ("native, clear, 24 reads", &clear_day)]
    {
        measure(name, TIMES, |_| {
            native::decode(frame, false, &profile::NATIVE).map_or(0, |d| d.reads.len())
        });
    }
    for (name, frame) in
        [("native, unseal, 1 read", &sealed), ("native, unseal, 24 reads", &sealed_day)]
    {
        measure(name, TIMES, |_| native::unseal(frame, &key).map_or(0, |clear| clear.len()));
    }
    let value = RegisterValue::new(55_667, -2, Unit::CubicMetre);
    let answer = cjt188::encode_answer(&cjt188::Answer {
        meter_type: 0x10,
        address: 201_707_010_069,
        control: 0x81,
        data_identifier: 0x901F,
        length: None,
        swapped: false,
        sequence: 1,
        unit_position: UnitPosition::After,
        reads: &[(Register::VOLUME, value)],
        clock: Some(at.naive_utc()),
        status: 0,
    })?;
    let profile::Codec::Cjt188(settings) = &profile::CJT188.codec else {
        return Err("the profile's codec".into());
    };
    measure("CJ/T 188 901F", TIMES, |_| {
        cjt188::decode(&answer, &profile::CJT188, settings).map_or(0, |d| d.reads.len())
    });
    let payload = [0x5A_u8; 24];
    let data = phy::DataFrame {
        dev_addr: 0x0102_0304,
        counter: 70_000,
        f_port: 1,
        payload: &payload,
        confirmed: false,
    };
    let frame = phy::encode_data(&data, &key, &key)?;
    measure("LoRaWAN PHYPayload, MIC and decrypt, 24 B", TIMES, |_| {
        phy::data_frame(&frame).map_or(0, |frame| {
            frame
                .confirmed_counter(&key, Some(69_999))
                .map_or(0, |counter| frame.decrypt(&key, counter).len())
        })
    });
    let envelope = Envelope {
        device: None,
        network: Network::NbIot,
        payload: clear,
        f_port: None,
        counter: None,
        received_at_ms: at.timestamp_millis(),
        network_time_ms: None,
        dedup: None,
        radio: Radio::default(),
        source: "127.0.0.1:5683".to_owned(),
    };
    let bytes = envelope.encode();
    measure("envelope, decode", TIMES, |_| {
        Envelope::decode(&bytes).map_or(0, |envelope| envelope.payload.len())
    });
    Ok(())
}
