//! LoRaWAN `PHYPayload` (LoRaWAN 1.0.x §4): what a gateway hears, before any network server.
//!
//! In: the bytes of one frame, session keys, the last counter. Out: header facts, and after the
//! MIC fits the payload in clear; the same frames encoded for simulators.
//! Never here: MAC commands (the options are kept as bytes and never walked: the crate underneath
//! panics on crafted ones), sessions, the choice among devices that share an address.

mod counter;
mod encode;
mod join;

pub use counter::{
    CounterOrder, FIRST_CONTACT_UPPER_HALVES, LATE_WINDOW, next_counter, past_counter,
};
pub use encode::{DataFrame, EncodeError, encode_data, encode_join_request};
pub use join::{JoinAccept, JoinRequest, join_accept, join_request};

use crate::UplinkError;
use crate::bytes::Reader;
use lorawan::default_crypto::DefaultFactory;
use lorawan::keys::{AES128, CryptoFactory, MIC, Mac};
use lorawan::parser::EncryptedDataPayload;

/// The longest `PHYPayload`, in bytes (LoRaWAN regional parameters, physical layer limit).
pub const PHY_BYTES_MAX: usize = 255;

const MIC_BYTES: usize = 4;

/// What kind of frame it is (LoRaWAN 1.0.4 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A device asks for a session.
    JoinRequest,
    /// The network grants one.
    JoinAccept,
    /// A device reports.
    UnconfirmedDataUp,
    /// The network sends.
    UnconfirmedDataDown,
    /// A device reports and wants an answer.
    ConfirmedDataUp,
    /// The network sends and wants an answer.
    ConfirmedDataDown,
    /// A LoRaWAN 1.1 device asks to renew its session.
    RejoinRequest,
    /// A vendor's own frame.
    Proprietary,
}

impl MessageType {
    const fn of(mhdr: u8) -> Self {
        match mhdr >> 5 {
            0 => Self::JoinRequest,
            1 => Self::JoinAccept,
            2 => Self::UnconfirmedDataUp,
            3 => Self::UnconfirmedDataDown,
            4 => Self::ConfirmedDataUp,
            5 => Self::ConfirmedDataDown,
            6 => Self::RejoinRequest,
            _ => Self::Proprietary,
        }
    }

    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JoinRequest => "JoinRequest",
            Self::JoinAccept => "JoinAccept",
            Self::UnconfirmedDataUp => "UnconfirmedDataUp",
            Self::UnconfirmedDataDown => "UnconfirmedDataDown",
            Self::ConfirmedDataUp => "ConfirmedDataUp",
            Self::ConfirmedDataDown => "ConfirmedDataDown",
            Self::RejoinRequest => "RejoinRequest",
            Self::Proprietary => "Proprietary",
        }
    }

    /// Whether it carries data, in either direction.
    #[must_use]
    pub const fn is_data(self) -> bool {
        self.is_data_up() || matches!(self, Self::UnconfirmedDataDown | Self::ConfirmedDataDown)
    }

    /// Whether it carries data of a device.
    #[must_use]
    pub const fn is_data_up(self) -> bool {
        matches!(self, Self::UnconfirmedDataUp | Self::ConfirmedDataUp)
    }
}

/// A data frame, split into its fields, its payload still closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    /// What kind of frame.
    pub message_type: MessageType,
    /// The device address.
    pub dev_addr: u32,
    /// The frame control byte as sent.
    pub f_ctrl: u8,
    /// The low half of the frame counter.
    pub f_cnt: u16,
    /// The frame options as sent; not to be walked before the MIC fits, and not walked here.
    pub f_opts: &'a [u8],
    /// The port, where there is one.
    pub f_port: Option<u8>,
    /// The payload, still encrypted.
    pub cipher: &'a [u8],
}

/// What a data frame says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What kind of frame.
    pub message_type: MessageType,
    /// The device address.
    pub dev_addr: u32,
    /// Whether the device lets the network choose its data rate.
    pub adr: bool,
    /// Whether it acknowledges a frame of the other side.
    pub ack: bool,
    /// The full frame counter where the MIC confirmed it, else its low half.
    pub counter: u32,
    /// The frame options as sent.
    pub f_opts: Vec<u8>,
    /// The port, where there is one.
    pub f_port: Option<u8>,
    /// The payload as sent.
    pub cipher: Vec<u8>,
    /// Whether the MIC fits; `None` when no key was there to check it.
    pub mic_valid: Option<bool>,
    /// The payload in clear, where a key was there to open it.
    pub plain: Option<Vec<u8>>,
}

/// The kind of frame these bytes hold.
///
/// # Errors
/// When there are none, too many, or the major version is not LoRaWAN R1.
pub fn message_type(bytes: &[u8]) -> Result<MessageType, UplinkError> {
    if bytes.len() > PHY_BYTES_MAX {
        let got = bytes.len();
        return Err(UplinkError::Oversized { what: "PHYPayload", got, limit: PHY_BYTES_MAX });
    }
    let mhdr = Reader::new(bytes, 0).u8("PHYPayload")?;
    if mhdr & 0x03 != 0 {
        let expected = "major version 0 (LoRaWAN R1)";
        return Err(UplinkError::Malformed { what: "MHDR", offset: 0, found: mhdr, expected });
    }
    Ok(MessageType::of(mhdr))
}

/// The data frame in `bytes`.
///
/// # Errors
/// When the bytes are too short or too long, or hold another kind of frame.
pub fn data_frame(bytes: &[u8]) -> Result<Frame<'_>, UplinkError> {
    let message_type = message_type(bytes)?;
    if !message_type.is_data() {
        let value = u64::from(bytes.first().copied().unwrap_or_default());
        return Err(UplinkError::Unsupported { what: "message type of MHDR", value, offset: 0 });
    }
    let mut reader = Reader::new(bytes, 0);
    reader.u8("MHDR")?;
    let dev_addr = u32::from_le_bytes(reader.array("DevAddr")?);
    let f_ctrl = reader.u8("FCtrl")?;
    let f_cnt = u16::from_le_bytes(reader.array("FCnt")?);
    let f_opts = reader.take(usize::from(f_ctrl & 0x0F), "FOpts")?;
    let rest = reader.remaining();
    let Some((body, _mic)) = rest.split_last_chunk::<MIC_BYTES>() else {
        reader.take(MIC_BYTES, "MIC")?;
        return Err(UplinkError::NotRecognised);
    };
    let (f_port, cipher) = match body.split_first() {
        Some((port, cipher)) => (Some(*port), cipher),
        None => (None, body),
    };
    Ok(Frame { bytes, message_type, dev_addr, f_ctrl, f_cnt, f_opts, f_port, cipher })
}

impl Frame<'_> {
    /// Whether the MIC fits this key and this full counter (LoRaWAN 1.0.4 §4.4).
    #[must_use]
    pub fn mic_fits(&self, nwk_s_key: &[u8; 16], counter: u32) -> bool {
        EncryptedDataPayload::new_with_factory(self.bytes, DefaultFactory)
            .is_ok_and(|frame| frame.validate_mic(&AES128(*nwk_s_key), counter))
    }

    /// The full counter the MIC confirms: above `last` if it can be, else at or below it, else,
    /// when nothing is known, under one of the first [`FIRST_CONTACT_UPPER_HALVES`].
    #[must_use]
    pub fn confirmed_counter(&self, nwk_s_key: &[u8; 16], last: Option<u32>) -> Option<u32> {
        let bytes = EncryptedDataPayload::new_with_factory(self.bytes, DefaultFactory).ok()?;
        let key = AES128(*nwk_s_key);
        counter::candidates(last, self.f_cnt).find(|counter| bytes.validate_mic(&key, *counter))
    }

    /// The payload in clear. A wrong key gives other bytes, not an error: only the MIC tells.
    #[must_use]
    pub fn decrypt(&self, key: &[u8; 16], counter: u32) -> Vec<u8> {
        let key = AES128(*key);
        let at = self.bytes.len() - MIC_BYTES - self.cipher.len();
        EncryptedDataPayload::new_with_factory(self.bytes.to_vec(), DefaultFactory)
            .and_then(|frame| frame.decrypt(Some(&key), Some(&key), counter))
            .ok()
            .and_then(|frame| Some(frame.to_inner().get(at..)?.get(..self.cipher.len())?.to_vec()))
            .unwrap_or_default()
    }

    /// Whether the MIC of a LoRaWAN 1.1 uplink fits (LoRaWAN 1.1 §4.4.1): half of it is made with
    /// each of two keys, the second over the radio settings too.
    #[must_use]
    pub fn mic_1_1_fits(&self, keys: &Keys11, counter: u32) -> bool {
        let Some((message, mic)) = self.bytes.split_last_chunk::<MIC_BYTES>() else {
            return false;
        };
        let [k0, k1] =
            if self.acknowledges() { keys.confirmed_counter.to_le_bytes() } else { [0; 2] };
        let head = [0x49, k0, k1, keys.data_rate, keys.channel];
        let (dev_addr, counter) = (self.dev_addr, counter);
        let serving = data_mic(&keys.s_nwk_s_int_key, head, dev_addr, counter, message).0;
        let network =
            data_mic(&keys.f_nwk_s_int_key, [0x49, 0, 0, 0, 0], dev_addr, counter, message).0;
        let [m0, m1, m2, m3] = *mic;
        self.message_type.is_data_up()
            && serving.starts_with(&[m0, m1])
            && network.starts_with(&[m2, m3])
    }

    /// Whether the frame lets the network choose the data rate.
    #[must_use]
    pub const fn adaptive_data_rate(&self) -> bool {
        self.f_ctrl & 0x80 != 0
    }

    /// Whether the frame acknowledges one of the other side.
    #[must_use]
    pub const fn acknowledges(&self) -> bool {
        self.f_ctrl & 0x20 != 0
    }

    /// What the frame says, with its payload still closed and its MIC unchecked.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            message_type: self.message_type,
            dev_addr: self.dev_addr,
            adr: self.adaptive_data_rate(),
            ack: self.acknowledges(),
            counter: u32::from(self.f_cnt),
            f_opts: self.f_opts.to_vec(),
            f_port: self.f_port,
            cipher: self.cipher.to_vec(),
            mic_valid: None,
            plain: None,
        }
    }
}

/// The MIC of an uplink: over the block B0 that `head` begins, then the message without its MIC
/// (LoRaWAN 1.0.4 §4.4, 1.1 §4.4.1).
fn data_mic(key: &[u8; 16], head: [u8; 5], dev_addr: u32, counter: u32, message: &[u8]) -> MIC {
    let [a0, a1, a2, a3] = dev_addr.to_le_bytes();
    let [c0, c1, c2, c3] = counter.to_le_bytes();
    // At most 255 bytes make a frame, so the length fits its byte.
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let mut cmac = DefaultFactory.new_mac(&AES128(*key));
    cmac.input(&head);
    cmac.input(&[0, a0, a1, a2, a3, c0, c1, c2, c3, 0, length]);
    cmac.input(message);
    short(cmac)
}

/// A CMAC cut to the four bytes a frame carries.
fn short(cmac: impl Mac) -> MIC {
    let mut mic = [0; MIC_BYTES];
    mic.iter_mut().zip(cmac.result()).for_each(|(to, from)| *to = from);
    MIC(mic)
}

/// What the MIC of a LoRaWAN 1.1 uplink is made with.
#[derive(Debug, Clone, Copy)]
pub struct Keys11 {
    /// Forwarding network session integrity key.
    pub f_nwk_s_int_key: [u8; 16],
    /// Serving network session integrity key.
    pub s_nwk_s_int_key: [u8; 16],
    /// Data rate index the frame was sent with.
    pub data_rate: u8,
    /// Channel index the frame was sent on.
    pub channel: u8,
    /// Low half of the counter of the confirmed downlink this frame acknowledges.
    pub confirmed_counter: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const NWK: [u8; 16] = [7; 16];
    const APP: [u8; 16] = [9; 16];

    fn frame(counter: u32, payload: &[u8]) -> Vec<u8> {
        encode_data(
            &DataFrame { dev_addr: 0x0102_0304, counter, f_port: 2, payload, confirmed: false },
            &NWK,
            &APP,
        )
        .unwrap()
    }

    #[test]
    fn a_frame_too_short_says_what_is_missing() {
        let bytes = frame(1, b"abc");
        let cut = |length| data_frame(bytes.get(..length).unwrap()).unwrap_err();
        assert_eq!(cut(0).to_string(), "PHYPayload needs 1 more bytes");
        assert_eq!(cut(4).to_string(), "DevAddr needs 1 more bytes");
        assert_eq!(cut(9).to_string(), "MIC needs 3 more bytes");
        assert_eq!(cut(9).offset(), Some(9));
        assert_eq!(data_frame(&[0x41, 0]).unwrap_err().code(), "malformed");
        assert_eq!(data_frame(&[0xE0; 20]).unwrap_err().code(), "unsupported");
        assert_eq!(data_frame(&[0x40; 256]).unwrap_err().code(), "oversized");
    }

    #[test]
    fn a_device_never_heard_is_taken_over_in_the_middle() {
        let bytes = frame(76_543, b"abc");
        let parsed = data_frame(&bytes).unwrap();
        assert_eq!(parsed.f_cnt, 11_007);
        assert_eq!(parsed.confirmed_counter(&NWK, None), Some(76_543));
        assert_eq!(parsed.confirmed_counter(&NWK, Some(70_000)), Some(76_543));
        assert_eq!(parsed.confirmed_counter(&NWK, Some(76_543)), Some(76_543));
        assert_eq!(parsed.confirmed_counter(&NWK, Some(80_000)), Some(76_543));
        assert_eq!(parsed.confirmed_counter(&NWK, Some(1)), None);
        assert_eq!(parsed.confirmed_counter(&APP, None), None);
    }

    proptest! {
        #[test]
        fn a_frame_opens_to_what_was_sent(dev_addr: u32, counter: u32, f_port in 1_u8..=223, payload in vec(any::<u8>(), 0..=222), confirmed: bool, nwk: [u8; 16], app: [u8; 16]) {
            let data = DataFrame { dev_addr, counter, f_port, payload: &payload, confirmed };
            let bytes = encode_data(&data, &nwk, &app).unwrap();
            let parsed = data_frame(&bytes).unwrap();
            prop_assert_eq!(parsed.dev_addr, dev_addr);
            prop_assert_eq!(parsed.f_port, Some(f_port));
            prop_assert_eq!(u32::from(parsed.f_cnt), counter & 0xFFFF);
            prop_assert!(parsed.mic_fits(&nwk, counter));
            prop_assert_eq!(parsed.decrypt(&app, counter), payload);
        }

        #[test]
        fn a_flipped_bit_spoils_the_mic(counter: u32, payload in vec(any::<u8>(), 0..60), position: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = frame(counter, &payload);
            *position.get_mut(&mut bytes) ^= 1 << bit;
            if let Ok(parsed) = data_frame(&bytes) {
                prop_assert!(!parsed.mic_fits(&NWK, counter));
            }
        }

        #[test]
        fn no_bytes_panic_as_a_frame(bytes in vec(any::<u8>(), 0..300), key: [u8; 16], last: Option<u32>) {
            if let Ok(parsed) = data_frame(&bytes) {
                let _opened = parsed.decrypt(&key, parsed.confirmed_counter(&key, last).unwrap_or(1));
                let keys = Keys11 { f_nwk_s_int_key: key, s_nwk_s_int_key: key, data_rate: 0, channel: 0, confirmed_counter: 0 };
                prop_assert!(!parsed.mic_1_1_fits(&keys, 1) || parsed.message_type.is_data_up());
            }
            let _join = (join_request(&bytes), join_accept(&bytes, &key));
        }
    }
}
