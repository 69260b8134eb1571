//! What stands in the data of each answer: one table per identifier, meter family and length.
//!
//! In: an identifier, a frame. Out: the list of fields to walk. A new meter is a new row here.
//! Never here: how a field is read (see `walk`).

use super::{Frame, UnitPosition};
use crate::UplinkError;
use model::{EventKind, Measure, Unit};

/// The identifier of valve commands and their answers.
pub(super) const VALVE: u16 = 0xA017;

/// The identifier of the address answer.
pub(super) const ADDRESS: u16 = 0x810A;

/// A bit, or a pattern of bits, of the status word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusBit {
    /// Which bits, the first status byte being the high one.
    pub mask: u16,
    /// Their value when the event is there.
    pub value: u16,
    /// The event.
    pub event: EventKind,
    /// Whether it touches measuring.
    pub suspect: bool,
}

const fn status(mask: u16, value: u16, event: EventKind, suspect: bool) -> StatusBit {
    StatusBit { mask, value, event, suspect }
}

/// Status bits of the standard (§7, table 10): D1 D0 valve, D2 battery.
pub const STANDARD_STATUS: &[StatusBit] = &[
    status(0x0300, 0x0100, EventKind::ValveClosed, false),
    status(0x0300, 0x0300, EventKind::ValveFault, false),
    status(0x0400, 0x0400, EventKind::BatteryLow, false),
];

/// Status bits of makers that count from the other end: D7 D6 valve, D5 battery.
pub const MIRRORED_STATUS: &[StatusBit] = &[
    status(0xC000, 0x4000, EventKind::ValveClosed, false),
    status(0xC000, 0xC000, EventKind::ValveFault, false),
    status(0x2000, 0x2000, EventKind::BatteryLow, false),
];

/// Status bits of the ultrasonic meters that send report 9097: the standard's, and an empty pipe.
const ULTRASONIC_STATUS: &[StatusBit] = &[
    status(0x0300, 0x0100, EventKind::ValveClosed, false),
    status(0x0300, 0x0300, EventKind::ValveFault, false),
    status(0x0400, 0x0400, EventKind::BatteryLow, false),
    status(0x0002, 0x0002, EventKind::EmptyPipe, true),
];

/// Which quantity of the meter a field holds; the meter type makes it a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// What the meter bills: volume, heat, cold or energy.
    Main,
    /// The same, backwards.
    Reverse,
    /// A measure whatever the meter type.
    Is(Measure),
}

/// One field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Digits with a unit byte before or after them.
    Quantity { subject: Subject, storage: u8, bytes: usize, decimals: i8 },
    /// Digits whose unit the standard fixes.
    Fixed { measure: Measure, bytes: usize, decimals: i8, unit: Unit },
    /// Second, minute, hour, day, month, year, century.
    Clock,
    /// The status word.
    Status { bytes: u8 },
    /// What the valve was told.
    ValveCode,
    /// Received power in dBm, high byte first, signed.
    Signal,
    /// IMEI, 16 digits, high byte first.
    Imei,
    /// Bytes read over.
    Skip(usize),
    /// All bytes to the end, read over.
    Rest,
}

impl Field {
    /// How many bytes it has; `None` when it takes the rest.
    pub(super) const fn width(self) -> Option<usize> {
        match self {
            Self::Quantity { bytes, .. } => Some(bytes + 1),
            Self::Fixed { bytes, .. } | Self::Skip(bytes) => Some(bytes),
            Self::Clock => Some(7),
            Self::Status { bytes } => Some(bytes as usize),
            Self::ValveCode => Some(1),
            Self::Signal => Some(2),
            Self::Imei => Some(8),
            Self::Rest => None,
        }
    }
}

/// A kind of meter, as T groups them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Water,
    Heat,
    Cold,
    Gas,
    Electricity,
}

impl Family {
    pub(super) const fn of(meter_type: u8) -> Option<Self> {
        match meter_type {
            0x10..=0x19 => Some(Self::Water),
            0x21 => Some(Self::Cold),
            0x20 | 0x22..=0x29 => Some(Self::Heat),
            0x30..=0x39 => Some(Self::Gas),
            0x40..=0x49 => Some(Self::Electricity),
            _ => None,
        }
    }

    const fn is_thermal(self) -> bool {
        matches!(self, Self::Heat | Self::Cold)
    }

    pub(super) const fn measure(self, subject: Subject) -> Measure {
        match (subject, self) {
            (Subject::Is(measure), _) => measure,
            (Subject::Main, Self::Water | Self::Gas) => Measure::Volume,
            (Subject::Main, Self::Heat) => Measure::Heat,
            (Subject::Main, Self::Cold) => Measure::Cold,
            (Subject::Main, Self::Electricity) => Measure::EnergyImport,
            (Subject::Reverse, Self::Electricity) => Measure::EnergyExport,
            (Subject::Reverse, Self::Water | Self::Gas | Self::Heat | Self::Cold) => {
                Measure::VolumeReverse
            }
        }
    }
}

/// One answer: for which identifiers, families, control code and length, and its fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) who: Who,
    /// A maker's own control code; `None` for the standard's answers.
    pub(super) control: Option<u8>,
    /// L; `None` when the last field takes the rest.
    pub(super) length: Option<usize>,
    /// Where the units stand, when the maker leaves no choice.
    pub(super) unit_position: Option<UnitPosition>,
    /// Whether the identifier counts settlements back: its first is storage 1.
    pub(super) counts_back: bool,
    /// Whether the values belong to the instant in the frame and to no other.
    pub(super) frozen: bool,
    /// What the status bits mean, when the form says so and not the profile.
    pub(super) status: Option<&'static [StatusBit]>,
    pub(super) fields: &'static [Field],
}

/// Which meters an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Thermal,
    NotThermal,
    Any,
}

const fn main(storage: u8) -> Field {
    Field::Quantity { subject: Subject::Main, storage, bytes: 4, decimals: 2 }
}

const fn is(measure: Measure, bytes: usize, decimals: i8) -> Field {
    Field::Quantity { subject: Subject::Is(measure), storage: 0, bytes, decimals }
}

const fn celsius(measure: Measure, bytes: usize) -> Field {
    Field::Fixed { measure, bytes, decimals: 2, unit: Unit::DegreeCelsius }
}

const fn hours(bytes: usize) -> Field {
    Field::Fixed { measure: Measure::OperatingTime, bytes, decimals: 0, unit: Unit::Hour }
}

const STATUS: Field = Field::Status { bytes: 2 };

/// Water, gas, electricity: running total, total at the settlement day, clock, status (§7, 901F).
const METERING: &[Field] = &[main(0), main(1), Field::Clock, STATUS];

/// Heat, 2004 edition: settlement, running heat, power, flow, volume, temperatures, hours.
/// Published examples of this frame read power and flow with two decimals.
const METERING_HEAT_2004: &[Field] = &[
    main(1),
    main(0),
    is(Measure::Power, 4, 2),
    is(Measure::Flow, 4, 2),
    is(Measure::HeatVolume, 4, 2),
    celsius(Measure::FlowTemperature, 3),
    celsius(Measure::ReturnTemperature, 3),
    hours(3),
    Field::Clock,
    STATUS,
];

/// Heat, 2018 edition: power and flow of three bytes, temperatures of two, hours of four.
const METERING_HEAT_2018: &[Field] = &[
    main(1),
    main(0),
    is(Measure::Power, 3, 2),
    is(Measure::Flow, 3, 3),
    is(Measure::HeatVolume, 4, 2),
    celsius(Measure::FlowTemperature, 2),
    celsius(Measure::ReturnTemperature, 2),
    hours(4),
    Field::Clock,
    STATUS,
];

/// Heat and cold in one meter, 2018 edition (911F). Pressures are read over: their unit is open.
const METERING_HEAT_COLD: &[Field] = &[
    Field::Quantity { subject: Subject::Is(Measure::Heat), storage: 1, bytes: 4, decimals: 2 },
    Field::Quantity { subject: Subject::Is(Measure::Cold), storage: 1, bytes: 4, decimals: 2 },
    is(Measure::Heat, 4, 2),
    is(Measure::Cold, 4, 2),
    is(Measure::Power, 3, 2),
    is(Measure::Flow, 3, 4),
    is(Measure::HeatVolume, 4, 2),
    celsius(Measure::FlowTemperature, 2),
    celsius(Measure::ReturnTemperature, 2),
    Field::Skip(4),
    hours(4),
    Field::Clock,
    STATUS,
];

/// A radio water meter's second reading (control A1): forward, reverse, flow, clock, two words.
const METERING_A1: &[Field] = &[
    Field::Quantity { subject: Subject::Main, storage: 0, bytes: 4, decimals: 3 },
    Field::Quantity { subject: Subject::Reverse, storage: 0, bytes: 4, decimals: 3 },
    is(Measure::Flow, 4, 4),
    Field::Clock,
    Field::Status { bytes: 4 },
];

/// An NB-IoT water meter's daily report (9097): totals, flow, temperature, clock, status, signal,
/// ICCID and IMEI; half-hourly increments of the day before follow and are read over.
const REPORT_9097: &[Field] = &[
    main(0),
    main(1),
    Field::Quantity { subject: Subject::Reverse, storage: 0, bytes: 4, decimals: 2 },
    Field::Skip(5),
    is(Measure::Flow, 4, 4),
    celsius(Measure::Temperature, 3),
    Field::Skip(4),
    Field::Clock,
    STATUS,
    Field::Signal,
    Field::Skip(4),
    Field::Skip(10),
    Field::Imei,
    Field::Rest,
];

/// Values frozen at an instant (D3xx, D4xx): the clock, then what the registers showed.
const FROZEN: &[Field] = &[
    Field::Clock,
    main(0),
    is(Measure::Flow, 4, 4),
    celsius(Measure::Temperature, 3),
    Field::Skip(3),
];

/// One settlement value; the identifier says which.
const SETTLEMENT: &[Field] = &[main(0)];

const SETTLEMENT_HEAT_COLD: &[Field] =
    &[is(Measure::Heat, 4, 2), is(Measure::Cold, 4, 2), is(Measure::HeatVolume, 4, 2)];

const fn answer(first: u16, last: u16, who: Who, length: usize, fields: &'static [Field]) -> Form {
    Form {
        first,
        last,
        who,
        control: None,
        length: Some(length),
        unit_position: None,
        counts_back: false,
        frozen: false,
        status: None,
        fields,
    }
}

const fn back(form: Form) -> Form {
    Form { counts_back: true, ..form }
}

const fn frozen(form: Form) -> Form {
    Form { frozen: true, ..form }
}

const fn ultrasonic(form: Form) -> Form {
    Form { status: Some(ULTRASONIC_STATUS), ..form }
}

const fn vendor(form: Form, control: Option<u8>) -> Form {
    Form { control, unit_position: Some(UnitPosition::Before), ..form }
}

const fn open_end(first: u16, last: u16, fields: &'static [Field]) -> Form {
    let closed = answer(first, last, Who::Any, 0, fields);
    Form { length: None, ..closed }
}

/// Every answer this codec reads; the first that fits is taken.
pub(super) const FORMS: &[Form] = &[
    vendor(answer(0x901F, 0x901F, Who::NotThermal, 0x1D, METERING_A1), Some(0xA1)),
    answer(0x901F, 0x901F, Who::NotThermal, 0x16, METERING),
    answer(0x901F, 0x901F, Who::Thermal, 0x2E, METERING_HEAT_2004),
    answer(0x901F, 0x901F, Who::Thermal, 0x2B, METERING_HEAT_2018),
    answer(0x911F, 0x911F, Who::Thermal, 0x39, METERING_HEAT_COLD),
    ultrasonic(vendor(answer(0x9097, 0x9097, Who::NotThermal, 0xAC, REPORT_9097), None)),
    answer(0x907F, 0x907F, Who::Any, 0x0A, &[Field::Clock]),
    back(answer(0xD120, 0xD12B, Who::Any, 0x08, SETTLEMENT)),
    back(answer(0xD200, 0xD2FE, Who::NotThermal, 0x08, SETTLEMENT)),
    back(answer(0xD200, 0xD2FE, Who::Thermal, 0x12, SETTLEMENT_HEAT_COLD)),
    frozen(answer(0xD300, 0xD4FF, Who::Any, 0x1A, FROZEN)),
    answer(ADDRESS, ADDRESS, Who::Any, 0x03, &[]),
    answer(0x8102, 0x8102, Who::Any, 0x12, &[Field::Skip(15)]),
    answer(0x8103, 0x8104, Who::Any, 0x04, &[Field::Skip(1)]),
    answer(0x8105, 0x8105, Who::Any, 0x12, &[Field::Skip(13), STATUS]),
    answer(0x8106, 0x8106, Who::Any, 0x04, &[Field::Skip(1)]),
    answer(VALVE, VALVE, Who::Any, 0x03, &[]),
    answer(VALVE, VALVE, Who::Any, 0x05, &[STATUS]),
    answer(VALVE, VALVE, Who::Any, 0x06, &[STATUS, Field::ValveCode]),
    answer(0xA010, 0xA019, Who::Any, 0x03, &[]),
    answer(0xA010, 0xA019, Who::Any, 0x05, &[STATUS]),
    open_end(0xA010, 0xA019, &[Field::Rest]),
    answer(0xA101, 0xA107, Who::Any, 0x05, &[STATUS]),
    open_end(0xA101, 0xA107, &[Field::Rest]),
];

/// The identifier in the standard's order, and whether the wire had it swapped.
pub(super) fn identifier(wire: [u8; 2]) -> Option<(u16, bool)> {
    let known =
        |identifier: u16| FORMS.iter().any(|form| (form.first..=form.last).contains(&identifier));
    let [first, second] = wire;
    let (normal, swapped) = (u16::from_be_bytes(wire), u16::from_be_bytes([second, first]));
    if known(normal) { Some((normal, false)) } else { known(swapped).then_some((swapped, true)) }
}

/// The form of an answer.
pub(super) fn form_of(
    meter_type: u8,
    control: u8,
    identifier: u16,
    length: Option<usize>,
) -> Option<&'static Form> {
    let family = Family::of(meter_type);
    FORMS.iter().find(|form| {
        (form.first..=form.last).contains(&identifier)
            && form.control.is_none_or(|wanted| wanted == control)
            && match form.who {
                Who::Any => true,
                Who::Thermal => family.is_some_and(Family::is_thermal),
                Who::NotThermal => family.is_some_and(|family| !family.is_thermal()),
            }
            && (form.length.is_none() || length.is_none() || form.length == length)
    })
}

/// The form of this frame's data.
pub(super) fn form(frame: &Frame<'_>, identifier: u16) -> Result<&'static Form, UplinkError> {
    let (meter_type, control) = (frame.meter_type, frame.control);
    let length = frame.data.len();
    if let Some(form) = form_of(meter_type, control, identifier, Some(length)) {
        return Ok(form);
    }
    let offset = frame.data_offset;
    Err(match form_of(meter_type, control, identifier, None) {
        Some(nearest) => UplinkError::LengthMismatch {
            what: "data of this identifier",
            offset: offset.saturating_sub(1),
            announced: length,
            found: nearest.length.unwrap_or(length),
        },
        None => UplinkError::Unsupported {
            what: "data identifier for this meter type",
            value: u64::from(identifier),
            offset,
        },
    })
}
