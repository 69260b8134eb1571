//! One CoAP datagram: what it asks, and what to answer.
//!
//! In: the bytes of a datagram (RFC 7252). Out: an uplink with the way to answer it, a finished
//! answer, or silence. Never here: sockets, the spool, what the payload means.

use coap_lite::{
    CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType,
    option_value::{OptionValueU16, OptionValueU32},
};
use model::DeviceKey;
use std::borrow::Cow;

/// The path uplinks are posted to.
const PATH: &[u8] = b"up";

/// The one content format a payload may be marked with: `application/octet-stream`.
const OCTET_STREAM: u16 = 42;

/// Options and header of a request, at most, beside its payload.
pub(crate) const OVERHEAD_BYTES_MAX: usize = 512;

/// What became of a datagram; the label of the requests counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// In the spool.
    Stored,
    /// Seen before, answered from memory.
    Duplicate,
    /// Answered 4.xx.
    Refused,
    /// Answered 5.03: the spool cannot take it.
    Busy,
    /// An empty confirmable message: answered with a reset.
    Ping,
    /// Not a request: reset or ignored.
    Ignored,
}

impl Outcome {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Ping => "ping",
            Self::Ignored => "ignored",
        }
    }
}

/// What it takes to answer a request later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// Whether the request wants an answer at all.
    confirmable: bool,
    message_id: u16,
    token: Vec<u8>,
}

/// What a datagram asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Keep this uplink, then answer.
    Uplink { reply: ReplyTo, device: Option<DeviceKey>, payload: Vec<u8> },
    /// Nothing to keep: send these bytes, if any.
    Nothing { answer: Option<Vec<u8>>, outcome: Outcome },
}

/// Reads a datagram. `cut` says that more bytes came than were kept.
pub(crate) fn read(datagram: &[u8], cut: bool, max_payload_bytes: usize) -> Asked {
    let ignored = |answer| Asked::Nothing { answer, outcome: Outcome::Ignored };
    let &[first, code, id_high, id_low, ref rest @ ..] = datagram else {
        return ignored(None);
    };
    let message_id = u16::from_be_bytes([id_high, id_low]);
    let (version, kind, token_length) = (first >> 6, (first >> 4) & 3, usize::from(first & 15));
    // RFC 7252 §3: unknown versions are ignored silently; §4.2, §4.3: acknowledgements and resets
    // answer nothing of ours.
    if version != 1 || kind > 1 {
        return ignored(None);
    }
    let confirmable = kind == 0;
    let reset = || confirmable.then(|| reset(message_id));
    if code == 0 {
        let outcome = if confirmable { Outcome::Ping } else { Outcome::Ignored };
        return Asked::Nothing { answer: reset(), outcome };
    }
    let (true, true, Some(token)) = (code >> 5 == 0, token_length <= 8, rest.get(..token_length))
    else {
        return ignored(reset());
    };
    let reply = ReplyTo { confirmable, message_id, token: token.to_vec() };
    let too_large = || refusal::too_large(max_payload_bytes);
    let wanted = if cut {
        Err(too_large())
    } else {
        match Packet::from_bytes(datagram) {
            Ok(packet) => uplink_of(packet, max_payload_bytes),
            Err(error) => Err(refusal::bad_request(format!("malformed options: {error}"))),
        }
    };
    match wanted {
        Ok((device, payload)) => Asked::Uplink { reply, device, payload },
        Err(refusal) => Asked::Nothing { answer: reply.refuse(refusal), outcome: Outcome::Refused },
    }
}

fn uplink_of(
    packet: Packet,
    max_payload_bytes: usize,
) -> Result<(Option<DeviceKey>, Vec<u8>), Refusal> {
    for (number, _) in packet.options() {
        let known = matches!(
            CoapOption::from(*number),
            CoapOption::UriHost
                | CoapOption::UriPort
                | CoapOption::UriPath
                | CoapOption::UriQuery
                | CoapOption::ContentFormat
                | CoapOption::Accept
                | CoapOption::Block1
                | CoapOption::Block2
        );
        // RFC 7252 §5.4.1: odd numbers are critical.
        if !known && number % 2 == 1 {
            return Err(refusal::bad_option(format!("option {number} is not understood here")));
        }
    }
    let path: Vec<&[u8]> = values(&packet, CoapOption::UriPath).collect();
    if path != [PATH] {
        return Err(refusal::not_found());
    }
    if packet.header.code != MessageClass::Request(RequestType::Post) {
        return Err(refusal::method());
    }
    for format in values(&packet, CoapOption::ContentFormat) {
        let number = OptionValueU16::try_from(format.to_vec())
            .map_err(|_| refusal::bad_request("content-format is longer than two bytes"))?;
        if number.0 != OCTET_STREAM {
            return Err(refusal::format(number.0));
        }
    }
    for block in values(&packet, CoapOption::Block1) {
        let block = OptionValueU32::try_from(block.to_vec())
            .map_err(|_| refusal::bad_request("block1 is longer than four bytes"))?;
        // Number and "more" bit: anything but the only block of a whole.
        if block.0 & !7 != 0 {
            return Err(refusal::too_large(max_payload_bytes));
        }
    }
    let mut device = None;
    for query in values(&packet, CoapOption::UriQuery) {
        let text = std::str::from_utf8(query)
            .map_err(|_| refusal::bad_request("the query is not UTF-8"))?;
        let Some(name) = text.strip_prefix("d=") else {
            return Err(refusal::bad_request(format!(
                "query {:?} is not known; want d=<device>",
                shorten(text)
            )));
        };
        let key = name.parse::<DeviceKey>().map_err(|_| {
            refusal::bad_request(format!(
                "d={:?} is not a device; want kind:number, as in imei:867512079825846",
                shorten(name)
            ))
        })?;
        if device.replace(key).is_some() {
            return Err(refusal::bad_request("d= is given twice"));
        }
    }
    if packet.payload.is_empty() {
        return Err(refusal::bad_request("the payload is empty"));
    }
    if packet.payload.len() > max_payload_bytes {
        return Err(refusal::too_large(max_payload_bytes));
    }
    Ok((device, packet.payload))
}

fn values(packet: &Packet, option: CoapOption) -> impl Iterator<Item = &[u8]> {
    packet.get_option(option).into_iter().flatten().map(Vec::as_slice)
}

fn shorten(text: &str) -> &str {
    text.char_indices().nth(32).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

impl ReplyTo {
    /// 2.04: the uplink is kept.
    pub(crate) fn kept(&self) -> Option<Vec<u8>> {
        self.answer(ResponseType::Changed, |_| ())
    }

    /// 5.03: try again in `retry_s` seconds.
    pub(crate) fn busy(&self, why: &str, retry_s: u32) -> Option<Vec<u8>> {
        self.answer(ResponseType::ServiceUnavailable, |packet| {
            packet.add_option_as(CoapOption::MaxAge, OptionValueU32(retry_s));
            packet.payload = why.as_bytes().to_vec();
        })
    }

    fn refuse(&self, refusal: Refusal) -> Option<Vec<u8>> {
        self.answer(refusal.code, |packet| {
            if let Some(bytes) = refusal.size {
                packet.add_option_as(CoapOption::Size1, OptionValueU32(bytes));
            }
            packet.payload = refusal.text.into_owned().into_bytes();
        })
    }

    /// A piggybacked answer; `None` for a non-confirmable request, which gets none.
    fn answer(&self, code: ResponseType, fill: impl FnOnce(&mut Packet)) -> Option<Vec<u8>> {
        if !self.confirmable {
            return None;
        }
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Acknowledgement);
        packet.header.code = MessageClass::Response(code);
        packet.header.message_id = self.message_id;
        packet.set_token(self.token.clone());
        fill(&mut packet);
        // Our own answers are short; one that were not would only stay unsent.
        packet.to_bytes().ok()
    }
}

fn reset(message_id: u16) -> Vec<u8> {
    let [high, low] = message_id.to_be_bytes();
    vec![0x70, 0, high, low]
}

/// Why a request is not taken, for the diagnostic payload (RFC 7252 §5.5.2).
struct Refusal {
    code: ResponseType,
    text: Cow<'static, str>,
    /// The largest payload taken, for 4.13.
    size: Option<u32>,
}

mod refusal {
    use super::{Cow, Refusal, ResponseType};

    fn plain(code: ResponseType, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, text: text.into(), size: None }
    }

    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> Refusal {
        plain(ResponseType::BadRequest, text)
    }

    pub(super) fn bad_option(text: String) -> Refusal {
        plain(ResponseType::BadOption, text)
    }

    pub(super) fn not_found() -> Refusal {
        plain(ResponseType::NotFound, "no such path; uplinks go to /up")
    }

    pub(super) fn method() -> Refusal {
        plain(ResponseType::MethodNotAllowed, "/up takes POST only")
    }

    pub(super) fn format(number: u16) -> Refusal {
        let text = format!("content-format {number} is not taken; want 42 or none");
        plain(ResponseType::UnsupportedContentFormat, text)
    }

    pub(super) fn too_large(max_payload_bytes: usize) -> Refusal {
        Refusal {
            code: ResponseType::RequestEntityTooLarge,
            text: format!("a payload has at most {max_payload_bytes} bytes, in one block").into(),
            size: u32::try_from(max_payload_bytes).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn post(change: impl FnOnce(&mut Packet)) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.code = MessageClass::Request(RequestType::Post);
        packet.header.message_id = 0x0102;
        packet.set_token(vec![9, 8, 7]);
        packet.add_option(CoapOption::UriPath, b"up".to_vec());
        packet.payload = b"frame".to_vec();
        change(&mut packet);
        packet.to_bytes_unlimited().unwrap()
    }

    fn answer(datagram: &[u8]) -> (String, String) {
        let Asked::Nothing { answer: Some(answer), outcome: Outcome::Refused } =
            read(datagram, false, 100)
        else {
            panic!("not refused");
        };
        let packet = Packet::from_bytes(&answer).unwrap();
        assert_eq!(packet.header.get_type(), MessageType::Acknowledgement);
        assert_eq!(packet.header.message_id, 0x0102);
        assert_eq!(packet.get_token(), [9, 8, 7]);
        (packet.header.get_code(), String::from_utf8(packet.payload).unwrap())
    }

    #[test]
    fn an_uplink_is_read_with_its_device() {
        let datagram = post(|packet| {
            packet.add_option(CoapOption::UriHost, b"gateway".to_vec());
            packet.add_option(CoapOption::ContentFormat, vec![42]);
            packet.add_option(CoapOption::UriQuery, b"d=imei:867512079825846".to_vec());
        });
        let Asked::Uplink { reply, device, payload } = read(&datagram, false, 100) else {
            panic!("not taken");
        };
        assert_eq!(device, Some(DeviceKey::Imei(867_512_079_825_846)));
        assert_eq!(payload, b"frame");
        assert_eq!(reply.kept().unwrap(), [0x63, 0x44, 1, 2, 9, 8, 7]);
        let busy = Packet::from_bytes(&reply.busy("later", 30).unwrap()).unwrap();
        assert_eq!(busy.header.get_code(), "5.03");
        assert_eq!(busy.get_first_option(CoapOption::MaxAge).unwrap(), &[30]);
    }

    #[test]
    fn what_is_not_taken_says_why() {
        type Change = fn(&mut Packet);
        let cases: &[(Change, &str, &str)] = &[
            (|p| p.clear_all_options(), "4.04", "no such path; uplinks go to /up"),
            (|p| p.add_option(CoapOption::UriPath, b"x".to_vec()), "4.04", "no such path"),
            (
                |p| p.header.code = MessageClass::Request(RequestType::Get),
                "4.05",
                "/up takes POST only",
            ),
            (|p| p.header.code = MessageClass::Reserved(0x1F), "4.05", "/up takes POST only"),
            (|p| p.add_option(CoapOption::ContentFormat, vec![50]), "4.15", "content-format 50"),
            (|p| p.add_option(CoapOption::ContentFormat, vec![]), "4.15", "content-format 0"),
            (|p| p.payload.clear(), "4.00", "the payload is empty"),
            (|p| p.payload = vec![0; 101], "4.13", "a payload has at most 100 bytes"),
            (|p| p.add_option(CoapOption::Block1, vec![0x0E]), "4.13", "a payload has at most"),
            (
                |p| p.add_option(CoapOption::UriQuery, b"d=phone:1".to_vec()),
                "4.00",
                "d=\"phone:1\"",
            ),
            (|p| p.add_option(CoapOption::UriQuery, b"x=1".to_vec()), "4.00", "query \"x=1\""),
            (|p| p.add_option(CoapOption::UriQuery, vec![0xFF]), "4.00", "the query is not UTF-8"),
            (|p| p.add_option(CoapOption::IfNoneMatch, vec![]), "4.02", "option 5 is not"),
        ];
        for (change, code, text) in cases {
            let (got_code, got_text) = answer(&post(change));
            assert_eq!(got_code, *code, "{got_text}");
            assert!(got_text.starts_with(text), "{got_text}");
        }
        // A delta of 15 is reserved for the payload marker.
        let (code, text) = answer(&[0x43, 2, 1, 2, 9, 8, 7, 0xF0]);
        assert_eq!((code.as_str(), text.starts_with("malformed options")), ("4.00", true));
        let Asked::Nothing { answer: Some(answer), .. } = read(&post(|_| ()), true, 100) else {
            panic!("taken although cut");
        };
        let packet = Packet::from_bytes(&answer).unwrap();
        assert_eq!(packet.header.get_code(), "4.13");
        assert_eq!(packet.get_first_option(CoapOption::Size1).unwrap(), &[100]);
    }

    #[test]
    fn what_is_no_request_is_reset_or_ignored() {
        let nothing = |answer: Option<&[u8]>, outcome| Asked::Nothing {
            answer: answer.map(<[u8]>::to_vec),
            outcome,
        };
        for (datagram, expected) in [
            (&[0x40, 0, 1, 2][..], nothing(Some(&[0x70, 0, 1, 2]), Outcome::Ping)),
            (&[0x50, 0, 1, 2], nothing(None, Outcome::Ignored)),
            (&[0x40, 0x45, 1, 2], nothing(Some(&[0x70, 0, 1, 2]), Outcome::Ignored)),
            (&[0x49, 2, 1, 2, 0, 0], nothing(Some(&[0x70, 0, 1, 2]), Outcome::Ignored)),
            (&[0x60, 0x44, 1, 2], nothing(None, Outcome::Ignored)),
            (&[0x70, 0, 1, 2], nothing(None, Outcome::Ignored)),
            (&[0x80, 2, 1, 2], nothing(None, Outcome::Ignored)),
            (&[0x40, 2], nothing(None, Outcome::Ignored)),
            (&[], nothing(None, Outcome::Ignored)),
        ] {
            assert_eq!(read(datagram, false, 100), expected, "{datagram:02x?}");
        }
        let mut non_confirmable = post(|packet| packet.payload.clear());
        non_confirmable[0] |= 0x10;
        assert_eq!(read(&non_confirmable, false, 100), nothing(None, Outcome::Refused));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut: bool) {
            read(&bytes, cut, 20);
        }

        #[test]
        fn no_request_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut datagram = vec![0x40, 2, 0, 0, 0xB2, b'u', b'p'];
            datagram.extend(bytes);
            read(&datagram, false, 20);
        }
    }
}
