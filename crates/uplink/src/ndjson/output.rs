//! A decoded payload as JSON fields.
//!
//! In: what a codec said. Out: names and texts; numbers of registers as exact decimal text.
//! Never here: decoding.

use crate::bytes::{hex_lower, hex_upper};
use crate::codec::cjt188::{self, UnitPosition, cat1};
use crate::codec::mbus;
use crate::decoded::{Decoded, DecodedEvent, DecodedRead, Details};
use crate::phy;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use model::{ReadQuality, RegisterValue};
use serde_json::{Map, Value, json};

/// `profile`, `device`, `reads`, `events`, and beside them the codec's details by name.
pub(super) fn fields(decoded: &Decoded) -> Map<String, Value> {
    let mut fields = match &decoded.details {
        Details::None => Map::new(),
        Details::Native(header) => object(json!({
            "serial": header.serial,
            "counter": header.counter,
            "sealed": header.sealed,
        })),
        Details::Cjt188(facts) => cjt188_fields(facts),
        Details::Cat1(facts) => cat1_fields(facts),
        Details::Mbus(facts) => mbus_fields(facts),
        Details::Lorawan(facts) => lorawan_fields(facts),
        Details::JoinRequest { join_eui, dev_eui, dev_nonce, mic_valid } => object(json!({
            "mtype": "JoinRequest",
            "join_eui": format!("{join_eui:016x}"),
            "dev_eui": format!("{dev_eui:016x}"),
            "dev_nonce": dev_nonce,
            "mic_valid": mic_valid,
        })),
        Details::RejoinRequest => object(json!({ "mtype": "RejoinRequest" })),
        Details::JoinAccept(accept) => object(json!({
            "mtype": "JoinAccept",
            "join_nonce": format!("{:06x}", accept.join_nonce),
            "net_id": format!("{:06x}", accept.net_id),
            "dev_addr": format!("{:08x}", accept.dev_addr),
            "dl_settings": format!("{:02x}", accept.dl_settings),
            "rx_delay": accept.rx_delay_s,
            "cflist": hex_lower(&accept.channels),
            "mic_valid": accept.mic_valid,
        })),
    };
    let reads: Vec<Value> = decoded.reads.iter().map(read).collect();
    let events: Vec<Value> = decoded.events.iter().map(event).collect();
    fields.insert("profile".to_owned(), decoded.profile.into());
    fields.insert("codec_version".to_owned(), decoded.codec_version.into());
    fields.insert("device".to_owned(), decoded.device.map(|device| device.to_string()).into());
    fields.insert("reads".to_owned(), reads.into());
    fields.insert("events".to_owned(), events.into());
    fields
}

/// Names as meter people write them: the maker's letters, the printed number.
fn mbus_fields(facts: &mbus::Facts) -> Map<String, Value> {
    object(json!({
        "link": facts.format.name(),
        "manufacturer": facts.manufacturer(),
        "id": facts.identification().map(|number| format!("{number:08}")),
        "version": facts.address.map(|[.., version, _]| version),
        "device_type": facts.device_type(),
        "ci": facts.ci.map(|ci| format!("{ci:02X}")),
        "content": facts.content.map(|content| content.name()),
        "security_mode": facts.mode,
        "protection": facts.protection.name(),
        "message_counter": facts.counter,
        "access_number": facts.access,
        "status": facts.status.map(|status| format!("{status:02X}")),
        "meter_time": facts.meter_time.map(local),
        "records": facts.records,
        "damaged_at": facts.damaged_at,
        "error_report": facts.error_report,
        "trailing": facts.trailing,
    }))
}

/// An object's fields without those that are null: absent says the same with less noise.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn read(read: &DecodedRead) -> Value {
    json!({
        "register": read.register.to_string(),
        "value": decimal(read.value),
        "unit": read.value.unit.symbol(),
        "measured_at": read.measured_at.map(instant),
        "quality": quality(read.quality),
    })
}

fn event(event: &DecodedEvent) -> Value {
    json!({
        "event": event.kind.name(),
        "at": event.at.map(instant),
        "detail": event.detail,
    })
}

fn decimal(value: RegisterValue) -> String {
    value.to_quantity().map_or_else(
        |_| format!("{}e{}", value.count, value.exponent),
        |quantity| quantity.value.to_string(),
    )
}

const fn quality(quality: ReadQuality) -> &'static str {
    match quality {
        ReadQuality::Actual => "actual",
        ReadQuality::Suspect => "suspect",
        ReadQuality::Estimated => "estimated",
        ReadQuality::Manual => "manual",
        ReadQuality::Edited => "edited",
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A meter's own clock: local time without an offset, because the meter knows none.
fn local(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Most significant digits first: maker code, then meter number.
fn address(wire: &[u8; 7]) -> String {
    let mut bytes = *wire;
    bytes.reverse();
    hex_upper(&bytes)
}

const fn meter_type(code: u8) -> Option<&'static str> {
    match code {
        0x10 => Some("cold_water"),
        0x11 => Some("hot_water"),
        0x12 => Some("drinking_water"),
        0x13 => Some("reclaimed_water"),
        0x14..=0x19 => Some("water"),
        0x20 | 0x22..=0x29 => Some("heat"),
        0x21 => Some("cooling"),
        0x30..=0x39 => Some("gas"),
        0x40..=0x49 => Some("electricity"),
        _ => None,
    }
}

fn cjt188_fields(facts: &cjt188::Facts) -> Map<String, Value> {
    let address = address(&facts.address);
    let identifier = facts.data_identifier.map(|identifier| format!("{identifier:04X}"));
    let wire = facts.data_identifier.map(|identifier| {
        format!("{:04X}", if facts.swapped { identifier.swap_bytes() } else { identifier })
    });
    let status = facts.status.map(|word| {
        let digits = usize::from(word.bytes) * 2;
        format!("{:0digits$X}", word.raw)
    });
    let unit_position = facts.unit_position.map(|position| match position {
        UnitPosition::Before => "FIRST",
        UnitPosition::After | UnitPosition::ByPlausibility => "LAST",
    });
    object(json!({
        "kind": facts.kind.name(),
        "type": format!("{:02X}", facts.meter_type),
        "meter_type": meter_type(facts.meter_type),
        "meter_no": address.get(4..),
        "manufacturer": address.get(..4),
        "control": format!("{:02X}", facts.control),
        "di": identifier,
        "di_wire_order": wire,
        "ser": facts.sequence,
        "meter_time": facts.meter_time.map(local),
        "status": status,
        "valve": facts.valve.map(cjt188::ValveState::name),
        "action": facts.action.map(cjt188::ValveAction::name),
        "code": facts.action.map(|action| format!("{:02X}", action.code())),
        "unit_position": unit_position,
        "imei": facts.imei.map(|imei| format!("{imei:015}")),
        "trailing_bytes": (facts.trailing != 0).then_some(facts.trailing),
        "address": address,
    }))
}

fn cat1_fields(facts: &cat1::Facts) -> Map<String, Value> {
    let bit = |mask: u16| facts.status & mask != 0;
    object(json!({
        "kind": "nb_report",
        "protocol": "CAT-1",
        "type": format!("{:02X}", facts.meter_type),
        "meter_type": meter_type(facts.meter_type),
        "address": address(&facts.address),
        "device_type": format!("{:02X}", facts.device_type),
        "control": format!("{:02X}", facts.control),
        "reporting_type": format!("{:04X}", facts.reporting_type),
        "packet_type": format!("{:02X}", facts.packet_type),
        "data_length": facts.data_length,
        "cumulative_litres": facts.cumulative_litres,
        "daily_litres": facts.daily_litres,
        "monthly_litres": facts.monthly_litres,
        "cumulative_report_count": facts.cumulative_report_count,
        "daily_report_count": facts.daily_report_count,
        "meter_time": facts.meter_time.map(local),
        "imei": facts.imei.map(|imei| format!("{imei:015}")),
        "iccid": hex_upper(&facts.iccid),
        "status": format!("{:04X}", facts.status),
        "valve": facts.valve.map(cjt188::ValveState::name),
        "battery_low": bit(0x0020),
        "magnetic": bit(0x0040),
        "cover_open": bit(0x0080),
        "manufacturer": format!("{:04X}", facts.manufacturer),
        "reporting_interval_min": facts.reporting_interval_min,
        "resolution_litres": facts.resolution_litres(),
        "voltage_mv": facts.voltage_mv,
        "signal_dbm": facts.signal_dbm,
        "spare": hex_upper(&facts.spare),
    }))
}

fn lorawan_fields(facts: &phy::Facts) -> Map<String, Value> {
    object(json!({
        "mtype": facts.message_type.name(),
        "dev_addr": format!("{:08x}", facts.dev_addr),
        "adr": facts.adr,
        "ack": facts.ack,
        "fcnt": facts.counter,
        "fopts_hex": hex_lower(&facts.f_opts),
        "fport": facts.f_port,
        "frm_payload_cipher_hex": hex_lower(&facts.cipher),
        "mic_valid": facts.mic_valid,
        "frm_payload_plain_hex": facts.plain.as_deref().map(hex_lower),
    }))
}
