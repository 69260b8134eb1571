//! The UDP loop: take what the socket has, make it durable together, then answer.
//!
//! In: datagrams. Out: envelopes in the spool, and answers, in this order.
//! Never here: what a message means (see `message`), MQTT, async.
//!
//! A thread of its own: receiving, writing and `fdatasync` block. Under load a group grows by
//! itself: while one is synced, the next gathers in the socket's buffer.

use crate::{
    CoapGatewaySettings,
    message::{self, Asked, Outcome, ReplyTo},
    peers::{Fingerprint, Peers},
};
use model::{DeviceKey, clock::Clock};
use rustix::net::{RecvFlags, recvfrom, sockopt};
use spool::{AppendError, Spool};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uplink::{Envelope, Network, Radio};

/// How often the loop looks whether it shall stop while nothing arrives.
const IDLE: Duration = Duration::from_millis(50);

/// What stands in `Envelope::source`.
const SOURCE: &str = "coap";

/// The server half of a gateway.
pub(crate) struct Server {
    socket: UdpSocket,
    spool: Spool,
    peers: Peers,
    clock: Clock,
    /// Tells the publisher how far the spool reaches.
    durable: watch::Sender<u64>,
    /// Set while the store claims more of this stream than the spool ever held.
    conflict: Arc<AtomicBool>,
    group_max: usize,
    max_payload_bytes: usize,
    busy_retry_s: u32,
    failing: bool,
}

/// The answers of one group, in order of arrival.
#[derive(Default)]
struct Group {
    envelopes: Vec<Vec<u8>>,
    kept: Vec<(SocketAddr, Fingerprint)>,
    /// Answers that promise durability.
    after: Vec<(SocketAddr, ReplyTo, Outcome)>,
    /// Answers that promise nothing.
    plain: Vec<(SocketAddr, Vec<u8>)>,
}

impl Server {
    pub(crate) fn new(
        settings: &CoapGatewaySettings,
        socket: UdpSocket,
        spool: Spool,
        clock: Clock,
        durable: watch::Sender<u64>,
        conflict: Arc<AtomicBool>,
    ) -> Self {
        Self {
            socket,
            spool,
            peers: Peers::new(settings.peers_max),
            clock,
            durable,
            conflict,
            group_max: settings.group_max,
            max_payload_bytes: settings.max_payload_bytes,
            busy_retry_s: settings.busy_retry_s,
            failing: false,
        }
    }

    /// Binds the socket with room for what arrives during a sync.
    pub(crate) fn bind(settings: &CoapGatewaySettings) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(settings.listen)?;
        socket.set_read_timeout(Some(IDLE))?;
        let asked = settings.receive_buffer_bytes;
        if let Err(error) = sockopt::set_socket_recv_buffer_size(&socket, asked) {
            tracing::warn!(%error, asked, "socket receive buffer stays as the system has it");
        }
        Ok(socket)
    }

    /// Serves until `cancel`; every answered uplink is in the spool.
    pub(crate) fn run(mut self, cancel: &CancellationToken) {
        let mut buffer = vec![0_u8; self.max_payload_bytes + message::OVERHEAD_BYTES_MAX];
        let mut group = Group::default();
        while !cancel.is_cancelled() {
            let mut taken = 0;
            let mut flags = RecvFlags::TRUNC;
            while taken < self.group_max {
                match self.receive(&mut buffer, flags) {
                    Ok(Some((peer, bytes))) => {
                        let cut = bytes > buffer.len();
                        let datagram = buffer.get(..bytes).unwrap_or(&buffer);
                        take(
                            &mut self.peers,
                            &self.clock,
                            &mut group,
                            Arrival {
                                peer,
                                datagram,
                                cut,
                                max_payload_bytes: self.max_payload_bytes,
                            },
                        );
                        taken += 1;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "receiving failed");
                        std::thread::sleep(IDLE);
                        break;
                    }
                }
                flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            }
            if taken > 0 {
                self.finish(&mut group);
            }
        }
    }

    /// The next datagram and its full length; `None` when there is none now.
    fn receive(
        &self,
        buffer: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<Option<(SocketAddr, usize)>> {
        match recvfrom(&self.socket, buffer, flags) {
            Ok((_, bytes, peer)) => {
                Ok(peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(|peer| (peer, bytes)))
            }
            Err(error) => {
                let error = io::Error::from(error);
                // Refused and unreachable: a peer we answered has gone away.
                let nothing_yet = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                );
                if nothing_yet { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Makes the group durable, then answers it.
    fn finish(&mut self, group: &mut Group) {
        for (peer, answer) in group.plain.drain(..) {
            self.send(peer, &answer);
        }
        let refused = self.append(&group.envelopes);
        if refused.is_some() {
            for (peer, fingerprint) in &group.kept {
                self.peers.forget(*peer, *fingerprint);
            }
        }
        for (peer, reply, outcome) in group.after.drain(..) {
            let (answer, outcome) = match refused {
                None => (reply.kept(), outcome),
                Some(why) => (reply.busy(why, self.busy_retry_s), Outcome::Busy),
            };
            count(outcome);
            if let Some(answer) = answer {
                self.send(peer, &answer);
            }
        }
        group.envelopes.clear();
        group.kept.clear();
    }

    /// Appends the envelopes; returns why not, for the meters.
    fn append(&mut self, envelopes: &[Vec<u8>]) -> Option<&'static str> {
        if envelopes.is_empty() {
            return None;
        }
        if self.conflict.load(Ordering::Relaxed) {
            return Some("the gateway and the store disagree; an operator has to look");
        }
        let records: Vec<&[u8]> = envelopes.iter().map(Vec::as_slice).collect();
        let before = Instant::now();
        let appended = self.spool.append(&records);
        metrics::histogram!("tidemark_coap_gateway_append_seconds")
            .record(before.elapsed().as_secs_f64());
        match appended {
            Ok(range) => {
                if self.failing {
                    tracing::info!("spool takes uplinks again");
                    self.failing = false;
                }
                self.durable.send_replace(range.end);
                None
            }
            Err(error) => {
                let full = matches!(error, AppendError::Full { .. });
                if !self.failing {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "spool refuses uplinks; meters are told to wait");
                    self.failing = true;
                }
                Some(if full { "the spool is full" } else { "the spool cannot be written" })
            }
        }
    }

    fn send(&self, peer: SocketAddr, answer: &[u8]) {
        // A lost answer is repaired by the meter's retransmission.
        if self.socket.send_to(answer, peer).is_err() {
            metrics::counter!("tidemark_coap_gateway_unsent_answers_total").increment(1);
        }
    }
}

struct Arrival<'a> {
    peer: SocketAddr,
    datagram: &'a [u8],
    cut: bool,
    max_payload_bytes: usize,
}

/// Sorts one datagram into the group.
fn take(peers: &mut Peers, clock: &Clock, group: &mut Group, arrival: Arrival<'_>) {
    let Arrival { peer, datagram, cut, max_payload_bytes } = arrival;
    match message::read(datagram, cut, max_payload_bytes) {
        Asked::Nothing { answer, outcome } => {
            count(outcome);
            group.plain.extend(answer.map(|answer| (peer, answer)));
        }
        Asked::Uplink { reply, device, payload } => {
            let now = clock.now();
            let fingerprint = peers.fingerprint(datagram);
            if peers.is_duplicate(peer, fingerprint, now.timestamp()) {
                group.after.push((peer, reply, Outcome::Duplicate));
                return;
            }
            group.envelopes.push(envelope(device, payload, now.timestamp_millis()).encode());
            group.kept.push((peer, fingerprint));
            group.after.push((peer, reply, Outcome::Stored));
        }
    }
}

fn envelope(device: Option<DeviceKey>, payload: Vec<u8>, received_at_ms: i64) -> Envelope {
    Envelope {
        device,
        network: Network::NbIot,
        payload,
        f_port: None,
        counter: None,
        received_at_ms,
        network_time_ms: None,
        dedup: None,
        radio: Radio::default(),
        source: SOURCE.to_owned(),
    }
}

fn count(outcome: Outcome) {
    metrics::counter!("tidemark_coap_gateway_requests_total", "outcome" => outcome.label())
        .increment(1);
}
