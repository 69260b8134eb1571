//! What meters are answered, and what is in the spool by then.

use crate::support::{Gateway, Meter, NO_BROKER, settings, spooled};
use coap_lite::CoapOption;
use model::DeviceKey;
use spool::SpoolSettings;
use std::process::Stdio;
use uplink::Network;

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmable_uplink_is_answered_and_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(dir.path(), "keeps", NO_BROKER)).await;
    let mut meter = Meter::of(gateway.address);
    let one = meter.post(b"one");
    for _ in 0..3 {
        let answer = meter.exchange(&one);
        assert_eq!((answer.header.get_code().as_str(), answer.header.message_id), ("2.04", 7));
        assert_eq!(answer.get_token(), [1, 2]);
    }
    // Another meter behind the same address, or the same one restarted: same id, other content.
    let mut restarted = one.clone();
    *restarted.last_mut().unwrap() ^= 1;
    assert_eq!(meter.exchange(&restarted).header.get_code(), "2.04");
    // Non-confirmable: kept without an answer. The next exchange comes after it.
    let mut silent = meter.post(b"silent");
    silent[0] |= 0x10;
    meter.socket.send(&silent).unwrap();
    meter.deliver(b"last");
    gateway.stop().await;
    let kept = spooled(dir.path());
    let payloads: Vec<&[u8]> = kept.iter().map(|e| e.payload.as_slice()).collect();
    assert_eq!(payloads, [b"one".as_slice(), b"ond", b"silent", b"last"]);
    assert!(kept.iter().all(|e| e.network == Network::NbIot && e.received_at_ms > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(dir.path(), "refuses", NO_BROKER)).await;
    let mut meter = Meter::of(gateway.address);
    let ping = meter.exchange(&[0x40, 0, 0x12, 0x34]);
    assert_eq!(ping.header.get_type(), coap_lite::MessageType::Reset);
    let empty = meter.post(b"");
    assert_eq!(meter.exchange(&empty).header.get_code(), "4.00");
    for size in [201, 5_000, 60_000] {
        let large = meter.post(b"x");
        let large = [large.as_slice(), &vec![0; size]].concat();
        let answer = meter.exchange(&large);
        assert_eq!(answer.header.get_code(), "4.13");
        assert_eq!(answer.get_first_option(CoapOption::Size1).unwrap(), &[200]);
    }
    gateway.stop().await;
    assert!(spooled(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_tells_meters_to_wait_and_keeps_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = settings(dir.path(), "full", NO_BROKER);
    small.spool = SpoolSettings { segment_bytes: 500, max_bytes: 1000, ..small.spool };
    let gateway = Gateway::start(small).await;
    let mut meter = Meter::of(gateway.address);
    let mut answered = 0;
    let busy = loop {
        let datagram = meter.post(&[7; 100]);
        let answer = meter.exchange(&datagram);
        if answer.header.get_code() != "2.04" {
            // A retransmission is tried again, not taken for a duplicate.
            assert_eq!(meter.exchange(&datagram).header.get_code(), "5.03");
            break answer;
        }
        answered += 1;
    };
    assert_eq!(busy.header.get_code(), "5.03");
    assert_eq!(busy.get_first_option(CoapOption::MaxAge).unwrap(), &[30]);
    assert_eq!(busy.payload, b"the spool is full");
    gateway.stop().await;
    assert!(answered > 3);
    assert_eq!(spooled(dir.path()).len(), answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_client_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(dir.path(), "libcoap", NO_BROKER)).await;
    let url = format!("coap://{}", gateway.address);
    let client = |arguments: &[&str]| {
        let output = std::process::Command::new("coap-client-notls")
            .args(["-v", "6", "-B", "10"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect(
                "coap-client-notls is not installed: run `cargo xtask test`, which installs it",
            );
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let up = format!("{url}/up?d=imei:867512079825846");
    let kept = client(&["-m", "post", "-t", "application/octet-stream", "-e", "frame", &up]);
    assert!(kept.contains("2.04"), "{kept}");
    for (arguments, code) in [
        (vec!["-m", "post", "-e", "x", &format!("{url}/down")], "4.04"),
        (vec!["-m", "get", &format!("{url}/up")], "4.05"),
        (vec!["-m", "post", "-t", "text/plain", "-e", "x", &format!("{url}/up")], "4.15"),
        (vec!["-m", "post", "-e", "x", &format!("{url}/up?d=phone:1")], "4.00"),
    ] {
        let refused = client(&arguments);
        assert!(refused.contains(code), "{code}: {refused}");
    }
    let large = "x".repeat(3000);
    let refused = client(&["-m", "post", "-e", &large, &format!("{url}/up")]);
    assert!(refused.contains("4.13"), "{refused}");
    gateway.stop().await;
    let kept = spooled(dir.path());
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].device, Some(DeviceKey::Imei(867_512_079_825_846)));
    assert_eq!(kept[0].payload, b"frame");
}
