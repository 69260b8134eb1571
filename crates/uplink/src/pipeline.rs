//! The three steps from an envelope to reads: identify, open, decode.
//!
//! In: an envelope, the registry snapshot, the last counter. Out: the meter, the payload in clear,
//! what it says. Never here: where counters are kept, what becomes of an error.

use crate::codec::{cjt188, mbus, native};
use crate::decoded::Decoded;
use crate::phy::{self, CounterOrder};
use crate::profile::{self, Codec, Profile};
use crate::{Envelope, Network, UplinkError};
use chrono::{DateTime, Utc};
use model::{DeviceKey, MeterEntry, RegistrySnapshot};

/// A payload in clear, its sender and freshness settled as far as the frame allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The payload in clear.
    pub payload: Vec<u8>,
    /// Whether a native seal was opened: the payload is header and body without a tag.
    pub unsealed: bool,
    /// How it reached us.
    pub network: Network,
    /// The LoRaWAN port, where there is one.
    pub f_port: Option<u8>,
    /// The full counter, authenticated where a MIC or seal covers it. Keep the highest per meter.
    pub counter: Option<u32>,
    /// Where the counter stands against the last one; only authenticated counters are compared.
    pub order: CounterOrder,
    /// The last counter it was compared with.
    pub last_counter: Option<u32>,
}

/// The device an envelope comes from: named by its transport, else by its payload.
///
/// # Errors
/// When neither names one. A raw LoRaWAN frame names an address, which is not unique.
pub fn device_of(envelope: &Envelope) -> Result<DeviceKey, UplinkError> {
    if let Some(device) = envelope.device {
        return Ok(device);
    }
    if envelope.network == Network::LorawanRaw {
        return phy::data_frame(&envelope.payload).map(|frame| DeviceKey::DevAddr(frame.dev_addr));
    }
    let payload = &envelope.payload;
    native::names(payload)
        .or_else(|| mbus::names(payload))
        .or_else(|| cjt188::names(payload))
        .ok_or(UplinkError::UnnamedDevice)
}

/// The meter an envelope comes from.
///
/// Several meters may share a LoRaWAN address; then the MIC decides, tried under the upper halves
/// a counter can have had in its first sixteen million frames.
///
/// # Errors
/// When no device is named, none is registered under that name, or no MIC fits.
pub fn identify<'s>(
    envelope: &Envelope,
    snapshot: &'s RegistrySnapshot,
) -> Result<&'s MeterEntry, UplinkError> {
    let device = device_of(envelope)?;
    let DeviceKey::DevAddr(dev_addr) = device else {
        return snapshot.by_device(device).ok_or(UplinkError::UnknownDevice { device });
    };
    let mut candidates = snapshot.by_dev_addr(dev_addr);
    let first = candidates.next().ok_or(UplinkError::UnknownDevice { device })?;
    let Some(second) = candidates.next() else {
        return Ok(first);
    };
    let frame = phy::data_frame(&envelope.payload)?;
    [first, second]
        .into_iter()
        .chain(candidates)
        .find(|entry| {
            entry.lorawan.as_ref().is_some_and(|session| {
                frame.confirmed_counter(session.nwk_s_key.expose(), None).is_some()
            })
        })
        .ok_or(UplinkError::MicMismatch { dev_addr })
}

/// Checks who sent the payload and opens it: MIC and decryption of raw LoRaWAN frames, the seal
/// of native frames, and that the payload does not name somebody else.
///
/// `last_counter` is the highest [`Opened::counter`] of this meter so far. A counter at or below
/// it opens as [`CounterOrder::Same`] or [`CounterOrder::Late`]; [`decode`] then takes only reads
/// the meter dates itself, which a replay cannot change.
///
/// # Errors
/// When a key is missing, MIC or seal do not fit, the counter is far behind
/// ([`phy::LATE_WINDOW`]), a keyed meter sends unsealed, or the payload names another device.
pub fn open(
    envelope: &Envelope,
    entry: &MeterEntry,
    last_counter: Option<u32>,
) -> Result<Opened, UplinkError> {
    let profile = profile::by_name(&entry.profile)
        .ok_or_else(|| UplinkError::UnknownProfile { name: entry.profile.clone() })?;
    let mut opened = match envelope.network {
        Network::LorawanRaw => open_raw(envelope, entry, last_counter)?,
        Network::NbIot | Network::LorawanServer | Network::Platform => Opened {
            payload: envelope.payload.clone(),
            unsealed: false,
            network: envelope.network,
            f_port: envelope.f_port,
            counter: envelope.counter,
            order: CounterOrder::Next,
            last_counter,
        },
    };
    match &profile.codec {
        Codec::Native if !opened.payload.is_empty() => {
            open_native(&mut opened, entry, last_counter)?;
        }
        Codec::Native | Codec::Lorawan => {}
        Codec::Mbus => open_mbus(&mut opened, entry, last_counter)?,
        Codec::Cjt188(_) => {
            if let Some(named) = cjt188::names(&opened.payload) {
                check_name(named, entry, |key| matches!(key, DeviceKey::Cjt188(_)))?;
            }
        }
    }
    if let (CounterOrder::Old, Some(counter), Some(last)) =
        (opened.order, opened.counter, last_counter)
    {
        return Err(UplinkError::Replayed { counter, last });
    }
    Ok(opened)
}

/// A raw LoRaWAN frame: the MIC confirms sender and counter, then the payload is decrypted.
fn open_raw(
    envelope: &Envelope,
    entry: &MeterEntry,
    last_counter: Option<u32>,
) -> Result<Opened, UplinkError> {
    let frame = phy::data_frame(&envelope.payload)?;
    if !frame.message_type.is_data_up() {
        let value = u64::from(envelope.payload.first().copied().unwrap_or_default());
        return Err(UplinkError::Unsupported { what: "downlink MHDR", value, offset: 0 });
    }
    let session =
        entry.lorawan.as_ref().ok_or(UplinkError::KeyMissing { what: "the LoRaWAN session" })?;
    let counter = frame
        .confirmed_counter(session.nwk_s_key.expose(), last_counter)
        .ok_or(UplinkError::MicMismatch { dev_addr: frame.dev_addr })?;
    // Port 0 carries MAC commands under the network key: nothing of the meter's.
    let payload = match frame.f_port {
        None | Some(0) => Vec::new(),
        Some(_) => frame.decrypt(session.app_s_key.expose(), counter),
    };
    Ok(Opened {
        payload,
        unsealed: false,
        network: Network::LorawanRaw,
        f_port: frame.f_port,
        counter: Some(counter),
        order: CounterOrder::of(counter, last_counter),
        last_counter,
    })
}

/// A native frame: the name must be this meter's, and a meter with a key must seal.
fn open_native(
    opened: &mut Opened,
    entry: &MeterEntry,
    last_counter: Option<u32>,
) -> Result<(), UplinkError> {
    let (header, _) = native::header(&opened.payload)?;
    let named = DeviceKey::Serial(header.serial);
    check_name(named, entry, |key| matches!(key, DeviceKey::Serial(_)))?;
    let Some(key) = &entry.key else {
        return if header.sealed {
            Err(UplinkError::KeyMissing { what: "the meter's key" })
        } else {
            Ok(())
        };
    };
    opened.payload = native::unseal(&opened.payload, key.expose())?;
    opened.unsealed = true;
    // Under a network's own counter that one stays the meter's; the seal's orders CoAP frames.
    if opened.network != Network::LorawanRaw {
        opened.counter = Some(header.counter);
        opened.order = CounterOrder::of(header.counter, last_counter);
    }
    Ok(())
}

/// An M-Bus frame: the name must be this meter's, and a meter with a key must encrypt. A signed
/// message counter orders the meter's frames.
fn open_mbus(
    opened: &mut Opened,
    entry: &MeterEntry,
    last_counter: Option<u32>,
) -> Result<(), UplinkError> {
    if let Some(named) = mbus::names(&opened.payload) {
        check_name(named, entry, |key| matches!(key, DeviceKey::Mbus(_)))?;
    }
    let key = entry.key.as_ref().map(|key| key.expose());
    let frame = mbus::open(&opened.payload, key)?;
    if key.is_some() && !frame.facts.protection.by_key() {
        let serial = frame.facts.identification().unwrap_or_default();
        let counter = frame.facts.access.map(u32::from).unwrap_or_default();
        return Err(UplinkError::SealMissing { serial, counter });
    }
    if let Some(counter) = frame.facts.counter
        && opened.network != Network::LorawanRaw
    {
        opened.counter = Some(counter);
        opened.order = CounterOrder::of(counter, last_counter);
    }
    opened.payload = frame.into_frame();
    Ok(())
}

/// A payload may not name another device of a kind this meter has a name of.
fn check_name(
    named: DeviceKey,
    entry: &MeterEntry,
    same_kind: impl Fn(&DeviceKey) -> bool,
) -> Result<(), UplinkError> {
    let mut names = entry.devices.iter().copied().filter(same_kind).peekable();
    if names.peek().is_none() || names.any(|name| name == named) {
        Ok(())
    } else {
        Err(UplinkError::DeviceMismatch { named })
    }
}

/// Reads an opened payload. The time of reception bounds nothing yet; vendor codecs will date their
/// samples from it.
///
/// # Errors
/// When the payload does not follow the profile's layout, or when its counter was used before and
/// it holds reads the meter does not date: those would be dated now, and a replay would count.
pub fn decode(
    opened: &Opened,
    profile: &'static Profile,
    _received_at: DateTime<Utc>,
) -> Result<Decoded, UplinkError> {
    // A LoRaWAN frame without payload is a sign of life, not an error.
    if opened.payload.is_empty()
        && matches!(opened.network, Network::LorawanRaw | Network::LorawanServer)
    {
        return Ok(Decoded::nothing(profile));
    }
    let decoded = match &profile.codec {
        Codec::Native => native::decode(&opened.payload, opened.unsealed, profile)?,
        Codec::Cjt188(settings) => cjt188::decode(&opened.payload, profile, settings)?,
        Codec::Mbus => {
            mbus::decode(&opened.payload, profile, None, &mut mbus::FormatMemory::default())?
        }
        Codec::Lorawan => Decoded::nothing(profile),
    };
    let dated = decoded.reads.iter().all(|read| read.measured_at.is_some());
    match (opened.order, dated, opened.counter, opened.last_counter) {
        (CounterOrder::Next, ..) | (_, true, ..) => Ok(decoded),
        (_, false, Some(counter), Some(last)) => Err(UplinkError::Replayed { counter, last }),
        (_, false, ..) => Ok(decoded),
    }
}

#[cfg(test)]
mod tests;
