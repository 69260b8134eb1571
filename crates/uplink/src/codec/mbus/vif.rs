//! What the value information field means: EN 13757-3 tables as tables.
//!
//! In: a table and a code. Out: name, unit, power of ten, meaning. A new code is a new row here.
//! Never here: how the value is coded (see `value`), what becomes of it (see `map`).

use model::{Measure, RegisterValue, Unit};

/// Which table a code belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Primary VIF (table 10).
    Primary,
    /// After FB (table 14).
    Fb,
    /// After FD (table 12).
    Fd,
    /// After FD FD, the second level of the same table; no code of it is a register.
    FdFd,
    /// 7C: the unit is a text in the record.
    Text,
    /// 7F: the maker's own.
    Manufacturer,
    /// 7E or a reserved extension.
    Other,
}

/// What a value is about, as far as registers need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Active energy or heat: the device type decides.
    Energy,
    /// Volume: the device type decides.
    Volume,
    /// A measure whatever the device.
    Is(Measure),
    /// A date or a date with time.
    Date,
    /// A set of bits: read without sign.
    Bits,
    /// Error flags of the meter.
    ErrorFlags,
    /// A number, text or identifier nobody keeps as a register.
    Info,
}

/// One row: codes `first..=last` of a table; the power of ten rises by one with each code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vif {
    /// First code.
    pub first: u8,
    /// Last code.
    pub last: u8,
    /// The name in output.
    pub name: &'static str,
    /// The unit, where the model has it.
    pub unit: Unit,
    /// The power of ten of the first code.
    pub exponent: i8,
    /// What the count is multiplied by beside the power of ten (60 for a flow per minute).
    pub factor: i64,
    /// What it is about.
    pub means: Meaning,
}

const fn row(
    first: u8,
    last: u8,
    name: &'static str,
    exponent: i8,
    unit: Unit,
    means: Meaning,
) -> Vif {
    Vif { first, last, name, unit, exponent, factor: 1, means }
}

const fn info(first: u8, last: u8, name: &'static str) -> Vif {
    row(first, last, name, 0, Unit::One, Meaning::Info)
}

const fn times(factor: i64, vif: Vif) -> Vif {
    Vif { factor, ..vif }
}

/// Four codes of a duration: seconds, minutes, hours, days.
const fn span(first: u8, name: &'static str, means: Meaning) -> [Vif; 4] {
    [
        row(first, first, name, 0, Unit::Second, means),
        row(first + 1, first + 1, name, 0, Unit::Minute, means),
        row(first + 2, first + 2, name, 0, Unit::Hour, means),
        row(first + 3, first + 3, name, 0, Unit::Day, means),
    ]
}

const ON_TIME: [Vif; 4] = span(0x20, "on_time", Meaning::Info);
const OPERATING: [Vif; 4] = span(0x24, "operating_time", Meaning::Is(Measure::OperatingTime));
const AVERAGING: [Vif; 4] = span(0x70, "averaging_duration", Meaning::Info);
const ACTUALITY: [Vif; 4] = span(0x74, "actuality_duration", Meaning::Info);

use Meaning::{Bits, Date, Energy, ErrorFlags, Info, Is, Volume};

/// EN 13757-3 table 10. Energy is given in kWh and MJ, flow in m3/h.
const PRIMARY: &[Vif] = &[
    row(0x00, 0x07, "energy", -6, Unit::KilowattHour, Energy),
    row(0x08, 0x0F, "energy", -6, Unit::Megajoule, Energy),
    row(0x10, 0x17, "volume", -6, Unit::CubicMetre, Volume),
    row(0x18, 0x1F, "mass", -3, Unit::Kilogram, Is(Measure::Mass)),
    ON_TIME[0],
    ON_TIME[1],
    ON_TIME[2],
    ON_TIME[3],
    OPERATING[0],
    OPERATING[1],
    OPERATING[2],
    OPERATING[3],
    row(0x28, 0x2F, "power", -6, Unit::Kilowatt, Is(Measure::Power)),
    row(0x30, 0x37, "power", -6, Unit::MegajoulePerHour, Is(Measure::Power)),
    row(0x38, 0x3F, "flow", -6, Unit::CubicMetrePerHour, Is(Measure::Flow)),
    times(60, row(0x40, 0x47, "flow", -7, Unit::CubicMetrePerHour, Is(Measure::Flow))),
    times(3600, row(0x48, 0x4F, "flow", -9, Unit::CubicMetrePerHour, Is(Measure::Flow))),
    row(0x50, 0x57, "mass_flow", -3, Unit::KilogramPerHour, Info),
    row(0x58, 0x5B, "flow_temperature", -3, Unit::DegreeCelsius, Is(Measure::FlowTemperature)),
    row(0x5C, 0x5F, "return_temperature", -3, Unit::DegreeCelsius, Is(Measure::ReturnTemperature)),
    row(0x60, 0x63, "temperature_difference", -3, Unit::Kelvin, Is(Measure::TemperatureDifference)),
    row(0x64, 0x67, "external_temperature", -3, Unit::DegreeCelsius, Is(Measure::Temperature)),
    row(0x68, 0x6B, "pressure", -3, Unit::Bar, Is(Measure::Pressure)),
    row(0x6C, 0x6C, "date", 0, Unit::One, Date),
    row(0x6D, 0x6D, "date_time", 0, Unit::One, Date),
    info(0x6E, 0x6E, "heat_cost_units"),
    AVERAGING[0],
    AVERAGING[1],
    AVERAGING[2],
    AVERAGING[3],
    ACTUALITY[0],
    ACTUALITY[1],
    ACTUALITY[2],
    ACTUALITY[3],
    info(0x78, 0x78, "fabrication_number"),
    info(0x79, 0x79, "enhanced_identification"),
    info(0x7A, 0x7A, "bus_address"),
];

/// EN 13757-3 table 14, the codes after FB. Units the model lacks (gallons, feet, °F) are info.
const AFTER_FB: &[Vif] = &[
    row(0x00, 0x01, "energy", -1, Unit::MegawattHour, Energy),
    row(0x02, 0x03, "reactive_energy", 0, Unit::KilovarHour, Is(Measure::ReactiveImport)),
    row(0x04, 0x05, "apparent_energy", 0, Unit::KilovoltAmpereHour, Is(Measure::ApparentEnergy)),
    row(0x08, 0x09, "energy", -1, Unit::Gigajoule, Energy),
    info(0x0C, 0x0F, "energy_megacalories"),
    row(0x10, 0x11, "volume", 2, Unit::CubicMetre, Volume),
    row(0x14, 0x17, "reactive_power", -3, Unit::Kilovar, Is(Measure::ReactivePower)),
    row(0x18, 0x19, "mass", 5, Unit::Kilogram, Is(Measure::Mass)),
    row(0x1A, 0x1B, "humidity", -1, Unit::Percent, Is(Measure::Humidity)),
    info(0x20, 0x21, "volume_cubic_feet"),
    info(0x22, 0x23, "volume_gallons"),
    info(0x24, 0x26, "flow_gallons"),
    row(0x28, 0x29, "power", -1, Unit::Megawatt, Is(Measure::Power)),
    info(0x2A, 0x2B, "phase_angle"),
    row(0x2C, 0x2F, "frequency", -3, Unit::Hertz, Is(Measure::Frequency)),
    row(0x30, 0x31, "power", -1, Unit::GigajoulePerHour, Is(Measure::Power)),
    row(0x34, 0x37, "apparent_power", -3, Unit::KilovoltAmpere, Is(Measure::ApparentPower)),
    info(0x58, 0x67, "temperature_fahrenheit"),
    info(0x70, 0x73, "temperature_limit_fahrenheit"),
    row(0x74, 0x77, "temperature_limit", -3, Unit::DegreeCelsius, Info),
    row(0x78, 0x7F, "cumulative_maximum_power", -6, Unit::Kilowatt, Info),
];

const STORAGE_INTERVAL: [Vif; 4] = span(0x24, "storage_interval", Info);
const SINCE_READOUT: [Vif; 4] = span(0x2C, "duration_since_readout", Info);
const TARIFF_PERIOD: [Vif; 4] = span(0x34, "tariff_period", Info);
const SEND_PERIOD: [Vif; 4] = span(0x3C, "transmission_period", Info);

/// EN 13757-3 table 12, the codes after FD.
const AFTER_FD: &[Vif] = &[
    info(0x00, 0x03, "credit"),
    info(0x04, 0x07, "debit"),
    info(0x08, 0x08, "access_number"),
    info(0x09, 0x09, "device_type"),
    info(0x0A, 0x0A, "manufacturer"),
    info(0x0B, 0x0B, "parameter_set"),
    info(0x0C, 0x0C, "model_version"),
    info(0x0D, 0x0D, "hardware_version"),
    info(0x0E, 0x0E, "firmware_version"),
    info(0x0F, 0x0F, "software_version"),
    info(0x10, 0x10, "customer_location"),
    info(0x11, 0x11, "customer"),
    info(0x12, 0x15, "access_code"),
    info(0x16, 0x16, "password"),
    row(0x17, 0x17, "error_flags", 0, Unit::One, ErrorFlags),
    row(0x18, 0x18, "error_mask", 0, Unit::One, Bits),
    info(0x19, 0x19, "security_key"),
    row(0x1A, 0x1A, "digital_output", 0, Unit::One, Bits),
    row(0x1B, 0x1B, "digital_input", 0, Unit::One, Bits),
    info(0x1C, 0x1C, "baud_rate"),
    info(0x1D, 0x1D, "response_delay"),
    info(0x1E, 0x1E, "retries"),
    row(0x1F, 0x1F, "remote_control", 0, Unit::One, Bits),
    info(0x20, 0x20, "first_storage"),
    info(0x21, 0x21, "last_storage"),
    info(0x22, 0x22, "storage_block_size"),
    info(0x23, 0x23, "tariff_descriptor"),
    STORAGE_INTERVAL[0],
    STORAGE_INTERVAL[1],
    STORAGE_INTERVAL[2],
    STORAGE_INTERVAL[3],
    row(0x28, 0x28, "storage_interval", 0, Unit::Month, Info),
    info(0x29, 0x29, "storage_interval_years"),
    info(0x2A, 0x2A, "operator_data"),
    row(0x2B, 0x2B, "second_of_minute", 0, Unit::Second, Info),
    SINCE_READOUT[0],
    SINCE_READOUT[1],
    SINCE_READOUT[2],
    SINCE_READOUT[3],
    row(0x30, 0x30, "tariff_start", 0, Unit::One, Date),
    row(0x31, 0x31, "tariff_duration", 0, Unit::Minute, Info),
    row(0x32, 0x32, "tariff_duration", 0, Unit::Hour, Info),
    row(0x33, 0x33, "tariff_duration", 0, Unit::Day, Info),
    TARIFF_PERIOD[0],
    TARIFF_PERIOD[1],
    TARIFF_PERIOD[2],
    TARIFF_PERIOD[3],
    row(0x38, 0x38, "tariff_period", 0, Unit::Month, Info),
    info(0x39, 0x39, "tariff_period_years"),
    info(0x3A, 0x3A, "number"),
    info(0x3B, 0x3B, "radio_data_container"),
    SEND_PERIOD[0],
    SEND_PERIOD[1],
    SEND_PERIOD[2],
    SEND_PERIOD[3],
    row(0x40, 0x4F, "voltage", -9, Unit::Volt, Is(Measure::Voltage)),
    row(0x50, 0x5F, "current", -12, Unit::Ampere, Is(Measure::Current)),
    info(0x60, 0x60, "reset_counter"),
    info(0x61, 0x61, "cumulation_counter"),
    info(0x62, 0x62, "control_signal"),
    info(0x63, 0x63, "day_of_week"),
    info(0x64, 0x64, "week_number"),
    info(0x65, 0x65, "day_change"),
    info(0x66, 0x66, "parameter_activation"),
    info(0x67, 0x67, "supplier_information"),
    row(0x68, 0x68, "duration_since_cumulation", 0, Unit::Hour, Info),
    row(0x69, 0x69, "duration_since_cumulation", 0, Unit::Day, Info),
    row(0x6A, 0x6A, "duration_since_cumulation", 0, Unit::Month, Info),
    info(0x6B, 0x6B, "duration_since_cumulation_years"),
    row(0x6C, 0x6C, "battery_operating_time", 0, Unit::Hour, Info),
    row(0x6D, 0x6D, "battery_operating_time", 0, Unit::Day, Info),
    row(0x6E, 0x6E, "battery_operating_time", 0, Unit::Month, Info),
    info(0x6F, 0x6F, "battery_operating_time_years"),
    row(0x70, 0x70, "battery_changed", 0, Unit::One, Date),
    row(0x71, 0x71, "signal", 0, Unit::DecibelMilliwatt, Is(Measure::SignalStrength)),
    info(0x72, 0x72, "daylight_saving"),
    info(0x73, 0x73, "listening_window"),
    row(0x74, 0x74, "battery_remaining", 0, Unit::Day, Info),
    info(0x75, 0x75, "stop_counter"),
    info(0x76, 0x76, "manufacturer_data_container"),
];

const fn rows(table: Table) -> &'static [Vif] {
    match table {
        Table::Primary => PRIMARY,
        Table::Fb => AFTER_FB,
        Table::Fd => AFTER_FD,
        Table::FdFd | Table::Text | Table::Manufacturer | Table::Other => &[],
    }
}

/// The row of a code; `None` for a reserved one.
pub(super) fn vif(table: Table, code: u8) -> Option<&'static Vif> {
    let rows = rows(table);
    let after = rows.partition_point(|row| row.first <= code);
    rows.get(after.checked_sub(1)?).filter(|row| code <= row.last)
}

/// The code and count that mean exactly `value`: with its own power of ten, so that a meter keeps
/// one resolution; else the coarsest that loses nothing.
pub(super) fn code(table: Table, means: Meaning, value: RegisterValue) -> Option<(u8, i64)> {
    rows(table).iter().filter(|row| row.means == means && row.factor == 1).find_map(|row| {
        let value = value.in_unit(row.unit).ok()?;
        let exponent = |code: u8| row.exponent.checked_add(i8::try_from(code - row.first).ok()?);
        let codes = || (row.first..=row.last).rev();
        codes()
            .filter(|code| exponent(*code) == Some(value.exponent))
            .chain(codes())
            .find_map(|code| Some((code, value.with_exponent(exponent(code)?).ok()?.count)))
    })
}

/// Which way a quantity is counted, or from what distance it is looked at: VIFEs that change
/// whose register a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aspect {
    /// As the VIF says.
    Plain,
    /// 3E: at base conditions, the one a gas bill is made of.
    BaseConditions,
    /// 3A: not corrected to base conditions.
    Uncorrected,
    /// 3B: only what flowed forwards.
    Forward,
    /// 3C: only what flowed backwards.
    Backward,
    /// FC 01 to FC 04: one phase, or the neutral.
    Phase(u8),
    /// Anything that makes it another quantity: per time, a limit, a duration, a future value,
    /// the maker's own.
    Another,
}

/// What one combinable VIFE (EN 13757-3 table 15) does to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    None,
    /// Multiplies by ten to the power of code − `first` + this.
    Power(i8),
    /// Says whose it is.
    Is(Aspect),
    /// 01 to 1F: the meter could not give the value.
    Failed,
}

/// EN 13757-3 table 15, first to last code. What is not here makes another quantity.
const COMBINABLE: &[(u8, u8, Effect)] = &[
    (0x00, 0x00, Effect::None),
    (0x01, 0x1F, Effect::Failed),
    (0x3A, 0x3A, Effect::Is(Aspect::Uncorrected)),
    (0x3B, 0x3B, Effect::Is(Aspect::Forward)),
    (0x3C, 0x3C, Effect::Is(Aspect::Backward)),
    (0x3E, 0x3E, Effect::Is(Aspect::BaseConditions)),
    (0x70, 0x77, Effect::Power(-6)),
    (0x7D, 0x7D, Effect::Power(3)),
];

/// What all VIFEs of a record do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Combined {
    /// Whose register the value is.
    pub(super) aspect: Aspect,
    /// Power of ten to multiply by.
    pub(super) exponent: i8,
    /// Whether the meter says it could not give the value.
    pub(super) failed: bool,
}

/// Reads the VIFEs behind the code, extension bits and all.
pub(super) fn combine(vifes: &[u8]) -> Combined {
    let mut all = Combined { aspect: Aspect::Plain, exponent: 0, failed: false };
    let mut rest = vifes.iter().map(|vife| vife & 0x7F);
    while let Some(code) = rest.next() {
        let effect = match code {
            0x7C => Effect::Is(match rest.next() {
                Some(phase @ 1..=4) => Aspect::Phase(phase),
                _ => Aspect::Another,
            }),
            _ => COMBINABLE
                .iter()
                .find(|(first, last, _)| (*first..=*last).contains(&code))
                .map_or(Effect::Is(Aspect::Another), |(.., effect)| *effect),
        };
        match effect {
            Effect::None => {}
            Effect::Failed => all.failed = true,
            Effect::Is(aspect) if all.aspect == Aspect::Plain => all.aspect = aspect,
            Effect::Is(_) => all.aspect = Aspect::Another,
            Effect::Power(base) => {
                let step = if code == 0x7D { 0 } else { i8::try_from(code & 0x07).unwrap_or(0) };
                all.exponent = all.exponent.saturating_add(base).saturating_add(step);
            }
        }
        // Whatever stands behind FF is the maker's own, not from this table.
        if code == 0x7F {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_do_not_overlap() {
        for rows in [PRIMARY, AFTER_FB, AFTER_FD] {
            assert!(rows.windows(2).all(|pair| pair[0].last < pair[1].first), "{rows:?}");
            assert!(rows.iter().all(|row| row.first <= row.last && row.last <= 0x7F));
        }
    }

    #[test]
    fn codes_mean_what_the_standard_says() {
        let said = |table, code: u8| {
            let row = vif(table, code).unwrap();
            (row.name, row.exponent + i8::try_from(code - row.first).unwrap(), row.unit)
        };
        assert_eq!(said(Table::Primary, 0x03), ("energy", -3, Unit::KilowattHour));
        assert_eq!(said(Table::Primary, 0x0E), ("energy", 0, Unit::Megajoule));
        assert_eq!(said(Table::Primary, 0x13), ("volume", -3, Unit::CubicMetre));
        assert_eq!(said(Table::Primary, 0x3B), ("flow", -3, Unit::CubicMetrePerHour));
        assert_eq!(said(Table::Primary, 0x5A), ("flow_temperature", -1, Unit::DegreeCelsius));
        assert_eq!(said(Table::Fb, 0x09), ("energy", 0, Unit::Gigajoule));
        assert_eq!(said(Table::Fb, 0x10), ("volume", 2, Unit::CubicMetre));
        assert_eq!(said(Table::Fd, 0x49), ("voltage", 0, Unit::Volt));
        assert_eq!(said(Table::Fd, 0x59), ("current", -3, Unit::Ampere));
        assert_eq!(vif(Table::Primary, 0x6F), None);
        assert_eq!(vif(Table::Fb, 0x06), None);
    }

    #[test]
    fn a_vife_may_make_it_another_register() {
        let aspect = |vifes: &[u8]| combine(vifes).aspect;
        assert_eq!(aspect(&[]), Aspect::Plain);
        assert_eq!(aspect(&[0x00]), Aspect::Plain);
        assert_eq!(aspect(&[0x3E]), Aspect::BaseConditions);
        assert_eq!(aspect(&[0x3C]), Aspect::Backward);
        assert_eq!(aspect(&[0xBE, 0x3C]), Aspect::Another);
        assert_eq!(aspect(&[0xFC, 0x02]), Aspect::Phase(2));
        assert_eq!(aspect(&[0xFF, 0x02]), Aspect::Another);
        assert_eq!(aspect(&[0x21]), Aspect::Another);
        assert_eq!(combine(&[0x74]).exponent, -2);
        assert_eq!(combine(&[0x7D]).exponent, 3);
        assert!(combine(&[0x0F]).failed);
    }
}
