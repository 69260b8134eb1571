//! NB-IoT meters: each an endpoint of its own that repeats itself until it is answered.
//!
//! In: what a meter sends, in order. Out: answers 2.04, however long they take.
//! Never here: what the payload means.
//!
//! Retransmission as RFC 7252 §4.2 wants it, but faster, and without end: the meters wait out a
//! gateway that was killed.

use coap_lite::{
    CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType,
    option_value::OptionValueU32,
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

/// The first and the longest wait for an answer.
const WAIT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(4));

/// The longest a meter heeds "try again later".
const BUSY_S_MAX: u32 = 2;

/// Why a meter gave up.
#[derive(Debug, thiserror::Error)]
pub enum CoapError {
    /// No socket.
    #[error("open a socket towards {gateway}")]
    Socket {
        /// The gateway.
        gateway: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The gateway refuses a request that is right.
    #[error("the gateway answers {code}: {diagnostic}")]
    Refused {
        /// The code.
        code: String,
        /// What it says about it.
        diagnostic: String,
    },
    /// A request that cannot be written down.
    #[error("a request of {bytes} bytes of payload is too long")]
    TooLong {
        /// Its payload.
        bytes: usize,
    },
}

/// One meter's side.
pub(crate) struct Endpoint {
    socket: UdpSocket,
    next_id: u16,
    /// The last request, to be repeated.
    last: Vec<u8>,
    pub(crate) retransmissions: u64,
}

enum Answer {
    Kept,
    Busy { retry_s: u32 },
}

impl Endpoint {
    pub(crate) async fn open(gateway: SocketAddr, first_id: u16) -> Result<Self, CoapError> {
        let here: SocketAddr = if gateway.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let open = async {
            let socket = UdpSocket::bind(here).await?;
            socket.connect(gateway).await?;
            Ok(socket)
        };
        let socket = open.await.map_err(|source| CoapError::Socket { gateway, source })?;
        Ok(Self { socket, next_id: first_id, last: Vec::new(), retransmissions: 0 })
    }

    /// Posts a payload, until it is kept.
    pub(crate) async fn post(
        &mut self,
        query: Option<&str>,
        payload: Vec<u8>,
    ) -> Result<(), CoapError> {
        loop {
            let bytes = payload.len();
            let request = request(self.next_id, query, payload.clone());
            self.next_id = self.next_id.wrapping_add(1);
            self.last = request.ok_or(CoapError::TooLong { bytes })?;
            match self.exchange().await? {
                Answer::Kept => return Ok(()),
                // As a new request: this one has its answer.
                Answer::Busy { retry_s } => {
                    sleep(Duration::from_secs(u64::from(retry_s.min(BUSY_S_MAX)))).await;
                }
            }
        }
    }

    /// Sends the last request once more, as a meter does that missed the answer.
    pub(crate) async fn repeat(&mut self) -> Result<(), CoapError> {
        while let Answer::Busy { retry_s } = self.exchange().await? {
            sleep(Duration::from_secs(u64::from(retry_s.min(BUSY_S_MAX)))).await;
        }
        Ok(())
    }

    async fn exchange(&mut self) -> Result<Answer, CoapError> {
        let mut wait = WAIT.0;
        loop {
            // An error here is the echo of an earlier datagram to a gateway that is away.
            let sent = self.socket.send(&self.last).await.is_ok();
            if sent && let Ok(answer) = timeout(wait, self.answer()).await {
                return answer;
            }
            if !sent {
                sleep(wait).await;
            }
            wait = (wait * 2).min(WAIT.1);
            self.retransmissions += 1;
        }
    }

    /// The answer to the last request; others are left over from earlier ones.
    async fn answer(&self) -> Result<Answer, CoapError> {
        let mut buffer = [0; 1500];
        loop {
            let Ok(bytes) = self.socket.recv(&mut buffer).await else {
                // Nobody listens there just now; the caller's timeout goes on.
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let datagram = buffer.get(..bytes).unwrap_or_default();
            let Ok(packet) = Packet::from_bytes(datagram) else { continue };
            let ours =
                self.last.get(2..4) == Some(packet.header.message_id.to_be_bytes().as_slice());
            if !ours || packet.header.get_type() != MessageType::Acknowledgement {
                continue;
            }
            return match packet.header.code {
                MessageClass::Response(ResponseType::Changed) => Ok(Answer::Kept),
                MessageClass::Response(ResponseType::ServiceUnavailable) => {
                    let retry = packet.get_first_option_as::<OptionValueU32>(CoapOption::MaxAge);
                    let retry_s = retry.and_then(Result::ok).map_or(1, |value| value.0);
                    Ok(Answer::Busy { retry_s })
                }
                MessageClass::Empty
                | MessageClass::Request(_)
                | MessageClass::Response(_)
                | MessageClass::Reserved(_) => Err(CoapError::Refused {
                    code: packet.header.get_code(),
                    diagnostic: String::from_utf8_lossy(&packet.payload).into_owned(),
                }),
            };
        }
    }
}

fn request(message_id: u16, query: Option<&str>, payload: Vec<u8>) -> Option<Vec<u8>> {
    let mut packet = Packet::new();
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(RequestType::Post);
    packet.header.message_id = message_id;
    packet.set_token(message_id.to_le_bytes().to_vec());
    packet.add_option(CoapOption::UriPath, b"up".to_vec());
    packet.add_option(CoapOption::ContentFormat, vec![42]);
    if let Some(query) = query {
        packet.add_option(CoapOption::UriQuery, query.as_bytes().to_vec());
    }
    packet.payload = payload;
    packet.to_bytes().ok()
}
