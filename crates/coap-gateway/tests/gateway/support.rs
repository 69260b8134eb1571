//! A gateway under test, a meter, and a look into the spool.
//!
//! In: settings. Out: running parts. Never here: assertions about behaviour.

use coap_gateway::{CoapGatewaySettings, GatewayError};
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use model::clock::Clock;
use spool::{Spool, SpoolSettings};
use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uplink::Envelope;

/// A port nobody listens on: the broker is away.
pub(crate) const NO_BROKER: &str = "mqtt://127.0.0.1:9";

pub(crate) fn settings(dir: &Path, gateway: &str, mqtt_url: &str) -> CoapGatewaySettings {
    CoapGatewaySettings {
        gateway: gateway.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        spool: SpoolSettings { dir: dir.to_owned(), ..SpoolSettings::default() },
        mqtt_url: mqtt_url.parse().unwrap(),
        max_payload_bytes: 200,
        ..CoapGatewaySettings::default()
    }
}

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), GatewayError>>,
}

impl Gateway {
    pub(crate) async fn start(settings: CoapGatewaySettings) -> Self {
        let cancel = CancellationToken::new();
        let (ready, bound) = oneshot::channel();
        let task = tokio::spawn(coap_gateway::run(
            settings,
            Clock::Wall,
            cancel.clone(),
            move |address| ready.send(address).expect("somebody waits for the address"),
        ));
        Self { address: bound.await.expect("the gateway starts"), cancel, task }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A meter with a socket of its own.
pub(crate) struct Meter {
    pub(crate) socket: UdpSocket,
    next_id: u16,
}

impl Meter {
    pub(crate) fn of(gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(gateway).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, next_id: 7 }
    }

    pub(crate) fn post(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::Request(RequestType::Post);
        packet.header.message_id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        packet.set_token(vec![1, 2]);
        packet.add_option(CoapOption::UriPath, b"up".to_vec());
        packet.payload = payload.to_vec();
        packet.to_bytes().unwrap()
    }

    pub(crate) fn exchange(&self, datagram: &[u8]) -> Packet {
        self.socket.send(datagram).unwrap();
        self.answer()
    }

    pub(crate) fn answer(&self) -> Packet {
        let mut buffer = [0; 500];
        let bytes = self.socket.recv(&mut buffer).expect("an answer");
        Packet::from_bytes(&buffer[..bytes]).unwrap()
    }

    /// Posts and expects 2.04.
    pub(crate) fn deliver(&mut self, payload: &[u8]) {
        let datagram = self.post(payload);
        assert_eq!(self.exchange(&datagram).header.get_code(), "2.04");
    }
}

/// What a stopped gateway left in its spool.
pub(crate) fn spooled(dir: &Path) -> Vec<Envelope> {
    let settings = SpoolSettings { dir: dir.to_owned(), ..SpoolSettings::default() };
    let spool = Spool::open(&settings).unwrap();
    let mut reader = spool.reader();
    let mut envelopes = Vec::new();
    let mut next = spool.first_sequence();
    while next < spool.next_sequence() {
        for (sequence, record) in reader.read(next, 1000, 1 << 20).unwrap() {
            envelopes.push(Envelope::decode(&record).unwrap());
            next = sequence + 1;
        }
    }
    envelopes
}
