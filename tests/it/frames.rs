//! Frames of a few meters that only the tests know, and the ways they are sent.
//!
//! In: what a meter shows and when. Out: bytes; a CoAP exchange by libcoap's own client; messages
//! on the broker. Never here: what must come of them.

use crate::house::{Scratch, ask};
use chrono::{DateTime, TimeDelta, Utc};
use model::{Register, RegisterValue, Unit};
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};
use uplink::codec::{cjt188, native};

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A native frame with one read: sealed with the key, when there is one.
pub(crate) fn native(
    serial: u64,
    counter: u32,
    read: (DateTime<Utc>, i64),
    key: Option<&[u8; 16]>,
) -> Vec<u8> {
    let counts = [read.1];
    let series = native::Series {
        register: Register::VOLUME,
        unit: Unit::CubicMetre,
        exponent: -3,
        start: read.0,
        step_s: 3600,
        counts: &counts,
        suspect: false,
    };
    match key {
        Some(key) => native::encode_sealed(serial, counter, &[series], &[], key).unwrap(),
        None => native::encode(serial, counter, &[series], &[]).unwrap(),
    }
}

/// A CJ/T 188 frame of a water meter, its clock at `at`, in hundredths of a cubic metre.
pub(crate) fn cjt188(address: u64, sequence: u8, at: DateTime<Utc>, count: i64) -> Vec<u8> {
    let value = RegisterValue::new(count, -2, Unit::CubicMetre);
    cjt188::encode_answer(&cjt188::Answer {
        meter_type: 0x10,
        address,
        control: 0x81,
        data_identifier: 0x901F,
        length: None,
        swapped: false,
        sequence,
        unit_position: cjt188::UnitPosition::After,
        reads: &[(Register::VOLUME, value)],
        clock: Some((at + TimeDelta::hours(8)).naive_utc()),
        status: 0,
    })
    .unwrap()
}

/// Posts a payload as a meter's module does; what the gateway says about it, nothing with 2.04.
pub(crate) fn post(gateway: &str, device: Option<&str>, payload: &[u8]) -> String {
    let query = device.map_or_else(String::new, |device| format!("?d={device}"));
    coap(&format!("coap://{gateway}/up{query}"), payload)
}

/// The same to any address.
pub(crate) fn coap(url: &str, payload: &[u8]) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let scratch = Scratch::new("coap");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = scratch.write(&format!("payload-{number}"), payload);
    let mut client = Command::new("coap-client-notls");
    client.args(["-m", "post", "-t", "42", "-B", "60"]);
    if !payload.is_empty() {
        client.arg("-f").arg(file);
    }
    let answer = ask(client.arg(url));
    format!("{}{}", answer.out, answer.err).trim().to_owned()
}

/// Publishes messages and waits until the broker has them all.
pub(crate) fn publish(broker: &str, messages: &[(String, Vec<u8>)]) {
    let (host, port) = broker.strip_prefix("mqtt://").unwrap().rsplit_once(':').unwrap();
    let name = format!("tests-it-{}", std::process::id());
    let options = MqttOptions::new(name, host, port.parse().unwrap());
    let (client, mut connection) = Client::new(options, messages.len() + 1);
    for (topic, body) in messages {
        client.publish(topic.as_str(), QoS::AtLeastOnce, false, body.clone()).unwrap();
    }
    let mut owed = messages.len();
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => owed -= 1,
            Event::Outgoing(Outgoing::Disconnect) => return,
            Event::Incoming(_) | Event::Outgoing(_) => continue,
        }
        if owed == 0 {
            client.disconnect().unwrap();
        }
    }
}
