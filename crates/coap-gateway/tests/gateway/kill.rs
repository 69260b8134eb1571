//! SIGKILL at any moment loses no answered uplink.
//!
//! This test program starts itself: run with `TIDEMARK_TEST_KILLED_GATEWAY` set, the test
//! `a_gateway_to_be_killed` is a gateway until it is killed.

use crate::support::{Gateway, Meter, NO_BROKER, settings, spooled};
use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

const VARIABLE: &str = "TIDEMARK_TEST_KILLED_GATEWAY";

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_to_be_killed() {
    let Ok(dir) = std::env::var(VARIABLE) else {
        return;
    };
    let gateway = Gateway::start(settings(Path::new(&dir), "killed", NO_BROKER)).await;
    println!("\nlistening on {}", gateway.address);
    std::future::pending::<()>().await;
}

fn start(dir: &Path) -> (Child, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::a_gateway_to_be_killed", "--nocapture"])
        .env(VARIABLE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map(|line| line.unwrap())
        .find_map(|line| line.strip_prefix("listening on ").map(|a| a.parse().unwrap()))
        .expect("the child says where it listens");
    (child, address)
}

#[test]
fn kill_9_loses_no_answered_uplink() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = HashSet::new();
    for round in 0..6_u32 {
        let (mut child, address) = start(dir.path());
        let mut meters: Vec<Meter> = (0..20).map(|_| Meter::of(address)).collect();
        let deadly = answered.len() + 200 + usize::try_from(round).unwrap() * 37;
        let mut number = 0_u32;
        // Every meter keeps several uplinks under way, so that the kill falls between others'
        // datagrams, writes and answers.
        'alive: loop {
            for (index, meter) in meters.iter_mut().enumerate() {
                for _ in 0..4 {
                    number += 1;
                    let datagram = meter.post(format!("{round} {index} {number}").as_bytes());
                    meter.socket.send(&datagram).unwrap();
                    answered.insert((meter.socket.local_addr().unwrap(), datagram, false));
                }
            }
            let mut waiting: Vec<_> = answered.iter().filter(|(.., done)| !done).cloned().collect();
            waiting.sort();
            for meter in &meters {
                for _ in 0..4 {
                    let answer = meter.answer();
                    assert_eq!(answer.header.get_code(), "2.04");
                    let of = waiting
                        .iter()
                        .find(|(socket, datagram, _)| {
                            *socket == meter.socket.local_addr().unwrap()
                                && datagram[2..4] == answer.header.message_id.to_be_bytes()
                        })
                        .expect("an answer to what was sent")
                        .clone();
                    answered.remove(&of);
                    answered.insert((of.0, of.1, true));
                    if answered.iter().filter(|(.., done)| *done).count() >= deadly {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        break 'alive;
                    }
                }
            }
        }
        answered.retain(|(.., done)| *done);
    }
    let kept: HashSet<Vec<u8>> = spooled(dir.path()).into_iter().map(|e| e.payload).collect();
    for (_, datagram, _) in &answered {
        let payload = coap_lite::Packet::from_bytes(datagram).unwrap().payload;
        assert!(
            kept.contains(&payload),
            "answered but lost: {}",
            String::from_utf8_lossy(&payload)
        );
    }
    assert!(answered.len() > 1200);
}
