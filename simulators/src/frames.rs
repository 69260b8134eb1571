//! The bytes of everything that is sent.
//!
//! In: the utility and what is to be sent. Out: a CoAP request's payload or an MQTT message.
//! Never here: when it is sent, sockets.

use crate::{
    chance::Chance,
    plan::{Occasion, What},
    utility::{Meter, UTC_OFFSET_MINUTES, Utility, Way},
};
use chrono::{DateTime, TimeDelta, Utc};
use model::{DeviceKey, Register, RegisterValue, Unit};
use uplink::{
    Envelope, Network, Radio,
    codec::{cjt188, native},
    phy, transport,
};

/// The port of every LoRaWAN device here.
const F_PORT: u8 = 2;

/// The gateways that hear them.
const GATEWAYS: [u64; 2] = [0x0016_C001_F153_A14C, 0x0016_C001_F153_A14D];

/// ChirpStack's id of the application the devices belong to.
const APPLICATION: &str = "17c82e96-be03-4f38-aef3-f83d48582d97";

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// `POST /up[?query]`.
    Coap { query: Option<String>, payload: Vec<u8> },
    /// A publish.
    Mqtt { topic: String, body: Vec<u8> },
}

/// Why a frame of the plan could not be built: a mistake in the simulators.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The plan names a meter or an hour there is not.
    #[error("the plan sends what the utility does not have")]
    Plan,
    /// The native frame.
    #[error("build a native frame")]
    Native(#[from] native::EncodeError),
    /// The CJ/T 188 frame.
    #[error("build a CJ/T 188 frame")]
    Cjt188(#[from] cjt188::EncodeError),
    /// The LoRaWAN frame.
    #[error("build a LoRaWAN frame")]
    Lorawan(#[from] phy::EncodeError),
}

/// The message that `what` is.
pub(crate) fn message(utility: &Utility, what: What) -> Result<Message, FrameError> {
    if let What::Garbage { number } = what {
        let topic = format!("application/simulators/device/{number:016x}/event/up");
        return Ok(Message::Mqtt { topic, body: b"{\"deviceInfo\": {\"devEui\": ".to_vec() });
    }
    let meter = what
        .meter()
        .and_then(|index| usize::try_from(index).ok())
        .and_then(|index| utility.meters.get(index))
        .ok_or(FrameError::Plan)?;
    match what {
        What::Frame { frame, occasion, .. } => {
            let gateway = usize::from(occasion == Occasion::OtherGateway);
            Sender { utility, meter, gateway, forged: false }.send(frame)
        }
        What::Forged { frame, .. } => {
            Sender { utility, meter, gateway: 0, forged: true }.send(frame)
        }
        What::Stranger { frame, .. } => {
            let meter = &meter.stranger();
            Sender { utility, meter, gateway: 0, forged: false }.send(frame)
        }
        What::Garbage { .. } => Err(FrameError::Plan),
    }
}

struct Sender<'a> {
    utility: &'a Utility,
    meter: &'a Meter,
    gateway: usize,
    forged: bool,
}

impl Sender<'_> {
    fn send(&self, frame: u32) -> Result<Message, FrameError> {
        let counter = self.meter.first_counter + frame;
        let (first, last) = self.meter.frame_hours(frame);
        let clear = match self.meter.way {
            Way::CoapNative | Way::ChirpStackNative | Way::RawNative => {
                self.native(counter, first, last)?
            }
            Way::CoapCjt188 | Way::RawCjt188 => self.cjt188(counter, last)?,
        };
        match self.meter.way {
            Way::CoapNative | Way::CoapCjt188 => Ok(self.coap(clear)),
            Way::ChirpStackNative => self.chirpstack(counter, last, clear),
            Way::RawNative | Way::RawCjt188 => self.raw(counter, last, &clear),
        }
    }

    fn count(&self, hour: u32) -> Result<i64, FrameError> {
        let count = self.meter.count_at(hour).and_then(|count| i64::try_from(count).ok());
        count.ok_or(FrameError::Plan)
    }

    fn native(&self, counter: u32, first: u32, last: u32) -> Result<Vec<u8>, FrameError> {
        let counts: Vec<i64> =
            (first..=last).map(|hour| self.count(hour)).collect::<Result<_, _>>()?;
        let series = native::Series {
            register: Register::VOLUME,
            unit: Unit::CubicMetre,
            exponent: self.meter.way.exponent(),
            start: self.utility.months.instant(first),
            step_s: 3600,
            counts: &counts,
            suspect: false,
        };
        let serial = self.meter.serial();
        if self.meter.way == Way::RawNative {
            return Ok(native::encode(serial, counter, &[series], &[])?);
        }
        let frame = native::encode_sealed(serial, counter, &[series], &[], &self.meter.key)?;
        Ok(if self.forged { spoilt(frame, 0) } else { frame })
    }

    fn cjt188(&self, counter: u32, hour: u32) -> Result<Vec<u8>, FrameError> {
        let value = |count| RegisterValue::new(count, self.meter.way.exponent(), Unit::CubicMetre);
        let local = self.utility.months.instant(hour) + TimeDelta::minutes(UTC_OFFSET_MINUTES);
        let [sequence, ..] = counter.to_le_bytes();
        let frame = cjt188::encode_answer(&cjt188::Answer {
            meter_type: 0x10,
            address: self.meter.cjt188_address(),
            control: 0x81,
            data_identifier: 0x901F,
            length: None,
            // Both orders of the identifier are met in the field.
            swapped: self.meter.index % 2 == 1,
            sequence,
            unit_position: cjt188::UnitPosition::After,
            reads: &[
                (Register::VOLUME, value(self.count(hour)?)),
                // Nobody set a settlement day: it keeps what it showed at the beginning.
                (Register::VOLUME.storage(1), value(self.count(self.meter.from)?)),
            ],
            clock: Some(local.naive_utc()),
            status: 0,
        })?;
        // The checksum stands before the last byte.
        Ok(if self.forged && self.meter.way.is_coap() { spoilt(frame, 1) } else { frame })
    }

    fn coap(&self, payload: Vec<u8>) -> Message {
        // Half of the modules name themselves.
        let named = self.forged || self.meter.index.is_multiple_of(2);
        let query = named.then(|| format!("d={}", DeviceKey::Imei(self.meter.imei())));
        Message::Coap { query, payload }
    }

    fn envelope(&self, network: Network, payload: Vec<u8>, hour: u32) -> Envelope {
        let heard_at: DateTime<Utc> = self.utility.months.instant(hour) + TimeDelta::seconds(9);
        let mut chance = Chance::of(self.utility.seed, &[7, u64::from(self.meter.index)]);
        Envelope {
            device: None,
            network,
            payload,
            f_port: Some(F_PORT),
            counter: None,
            received_at_ms: heard_at.timestamp_millis(),
            network_time_ms: Some(heard_at.timestamp_millis()),
            dedup: None,
            radio: Radio {
                gateway: GATEWAYS.get(self.gateway).copied(),
                rssi_dbm: i16::try_from(chance.between(60, 118)).ok().map(|dbm| -dbm),
                snr_tenths: i16::try_from(chance.between(0, 160)).ok().map(|snr| snr - 60),
            },
            source: "simulators".to_owned(),
        }
    }

    fn chirpstack(&self, counter: u32, hour: u32, payload: Vec<u8>) -> Result<Message, FrameError> {
        let tags = [8, u64::from(self.meter.index), u64::from(counter), u64::from(self.forged)];
        let dedup = Chance::of(self.utility.seed, &tags).key();
        let envelope = Envelope {
            device: Some(DeviceKey::DevEui(self.meter.dev_eui())),
            counter: Some(counter),
            // Version 4 of a UUID, as the platform makes them.
            dedup: Some(*uuid::Builder::from_random_bytes(dedup).as_uuid().as_bytes()),
            ..self.envelope(Network::LorawanServer, payload, hour)
        };
        let (topic, body) =
            transport::encode_chirpstack_v4_up(&envelope, APPLICATION).ok_or(FrameError::Plan)?;
        Ok(Message::Mqtt { topic, body })
    }

    fn raw(&self, counter: u32, hour: u32, payload: &[u8]) -> Result<Message, FrameError> {
        let frame = phy::DataFrame {
            dev_addr: self.meter.dev_addr(),
            counter,
            f_port: F_PORT,
            payload,
            confirmed: false,
        };
        let frame = phy::encode_data(&frame, &self.meter.nwk_s_key, &self.meter.app_s_key)?;
        let frame = if self.forged { spoilt(frame, 0) } else { frame };
        let envelope = self.envelope(Network::LorawanRaw, frame, hour);
        let (topic, body) = transport::encode_gateway_bridge_v4_up(&envelope);
        Ok(Message::Mqtt { topic, body })
    }
}

/// The frame with the byte spoilt that has `behind` bytes behind it.
fn spoilt(mut frame: Vec<u8>, behind: usize) -> Vec<u8> {
    if let Some(byte) = frame.iter_mut().nth_back(behind) {
        *byte ^= 0x55;
    }
    frame
}

#[cfg(test)]
mod tests;
