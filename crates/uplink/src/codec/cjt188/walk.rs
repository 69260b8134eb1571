//! The walker: reads the fields of one form, whatever the meter.
//!
//! In: a form and the bytes behind the sequence byte. Out: reads and facts.
//! Never here: anything about one meter model (see `table`).

use super::table::{Family, Field, Form};
use super::{Facts, Settings, StatusWord, UnitPosition, ValveAction, unit};
use crate::bytes::{Reader, bcd_byte, bcd_le};
use crate::{DecodedRead, UplinkError};
use chrono::{NaiveDate, NaiveDateTime};
use model::{Measure, ReadQuality, Register, RegisterValue, Unit};

pub(super) struct Walker<'w> {
    pub(super) form: &'static Form,
    pub(super) facts: &'w mut Facts,
    pub(super) reads: &'w mut Vec<DecodedRead>,
    pub(super) settings: &'w Settings,
}

impl Walker<'_> {
    pub(super) fn walk(&mut self, mut reader: Reader<'_>) -> Result<(), UplinkError> {
        let position = self.unit_position(reader.remaining());
        self.reads.reserve_exact(self.form.fields.len());
        for field in self.form.fields {
            match *field {
                Field::Quantity { subject, storage, bytes, decimals } => {
                    let Some(family) = Family::of(self.facts.meter_type) else {
                        return Err(UplinkError::Unsupported {
                            what: "meter type",
                            value: u64::from(self.facts.meter_type),
                            offset: 1,
                        });
                    };
                    let measure = family.measure(subject);
                    let register = Register::of(measure).storage(self.storage(storage));
                    self.quantity(&mut reader, position, register, bytes, decimals)?;
                }
                Field::Fixed { measure, bytes, decimals, unit } => {
                    let digits = Digits::read(&mut reader, bytes)?;
                    self.push(Register::of(measure), digits, -decimals, unit);
                }
                Field::Clock => self.facts.meter_time = clock(reader.array("clock")?),
                Field::Status { bytes } => {
                    let raw = reader
                        .take(usize::from(bytes), "status word")?
                        .iter()
                        .fold(0, |word, byte| word << 8 | u32::from(*byte));
                    self.facts.status = Some(StatusWord { raw, bytes });
                }
                Field::ValveCode => {
                    self.facts.action = Some(ValveAction::of(reader.u8("valve code")?));
                }
                Field::Signal => {
                    let dbm = i16::from_be_bytes(reader.array("signal")?);
                    let register = Register::of(Measure::SignalStrength);
                    self.push(register, Digits(Some(i64::from(dbm))), 0, Unit::DecibelMilliwatt);
                }
                Field::Imei => {
                    let mut digits: [u8; 8] = reader.array("IMEI")?;
                    digits.reverse();
                    self.facts.imei = bcd_le(&digits).ok().filter(|number| *number != 0);
                }
                Field::Skip(bytes) => {
                    reader.take(bytes, "reserved bytes")?;
                }
                Field::Rest => {
                    reader.take(reader.remaining().len(), "vendor bytes")?;
                }
            }
        }
        Ok(())
    }

    /// The storage of a field: counted back by the identifier where the form says so.
    fn storage(&self, storage: u8) -> u8 {
        let identifier = self.facts.data_identifier.unwrap_or(self.form.first);
        if self.form.counts_back {
            let back = identifier.saturating_sub(self.form.first).saturating_add(1);
            u8::try_from(back).unwrap_or(u8::MAX)
        } else {
            storage
        }
    }

    fn quantity(
        &mut self,
        reader: &mut Reader<'_>,
        position: UnitPosition,
        register: Register,
        bytes: usize,
        decimals: i8,
    ) -> Result<(), UplinkError> {
        self.facts.unit_position = Some(position);
        let (digits, code_offset, code) = if position == UnitPosition::Before {
            let (offset, code) = (reader.offset(), reader.u8("unit")?);
            (Digits::read(reader, bytes)?, offset, code)
        } else {
            let digits = Digits::read(reader, bytes)?;
            (digits, reader.offset(), reader.u8("unit")?)
        };
        match unit::unit(code).filter(|(unit, _)| measures(register.measure, *unit)) {
            Some((unit, power)) => {
                self.push(register, digits, power - decimals, unit);
                Ok(())
            }
            // A register the meter does not have comes as zeros with no unit, or as FF.
            None if matches!(code, 0x00 | 0xFF) && matches!(digits.0, None | Some(0)) => Ok(()),
            None => Err(UplinkError::Unsupported {
                what: "unit code",
                value: u64::from(code),
                offset: code_offset,
            }),
        }
    }

    fn push(&mut self, register: Register, digits: Digits, exponent: i8, unit: Unit) {
        if let Digits(Some(count)) = digits {
            self.reads.push(DecodedRead {
                register,
                value: RegisterValue::new(count, exponent, unit),
                measured_at: None,
                quality: ReadQuality::Actual,
            });
        }
    }

    /// Where the units of this frame stand.
    fn unit_position(&self, data: &[u8]) -> UnitPosition {
        let wanted = self.form.unit_position.unwrap_or(self.settings.unit_position);
        if wanted != UnitPosition::ByPlausibility {
            return wanted;
        }
        if !self.units_fit(data, UnitPosition::After) && self.units_fit(data, UnitPosition::Before)
        {
            UnitPosition::Before
        } else {
            UnitPosition::After
        }
    }

    /// Whether every unit byte at this position fits its quantity.
    fn units_fit(&self, data: &[u8], position: UnitPosition) -> bool {
        let Some(family) = Family::of(self.facts.meter_type) else {
            return false;
        };
        let mut offset = 0;
        self.form.fields.iter().all(|field| {
            let at = offset;
            offset += field.width().unwrap_or_default();
            let Field::Quantity { subject, bytes, .. } = *field else {
                return true;
            };
            let at = if position == UnitPosition::Before { at } else { at + bytes };
            data.get(at)
                .and_then(|code| unit::unit(*code))
                .is_some_and(|(unit, _)| measures(family.measure(subject), unit))
        })
    }
}

/// Digits of a field; `None` when the meter says there is no value (all FF).
#[derive(Clone, Copy)]
struct Digits(Option<i64>);

impl Digits {
    fn read(reader: &mut Reader<'_>, bytes: usize) -> Result<Self, UplinkError> {
        let offset = reader.offset();
        let taken = reader.take(bytes, "digits")?;
        match bcd_le(taken) {
            Ok(value) => Ok(Self(i64::try_from(value).ok())),
            Err(_) if taken.iter().all(|byte| *byte == 0xFF) => Ok(Self(None)),
            Err(position) => Err(UplinkError::Malformed {
                what: "digits",
                offset: offset + position,
                found: taken.get(position).copied().unwrap_or_default(),
                expected: "two decimal digits",
            }),
        }
    }
}

/// The base units each quantity can be in.
const DIMENSIONS: &[(Measure, &[Unit])] = &[
    (Measure::Volume, &[Unit::Litre]),
    (Measure::VolumeReverse, &[Unit::Litre]),
    (Measure::HeatVolume, &[Unit::Litre]),
    (Measure::Heat, &[Unit::WattHour, Unit::Joule]),
    (Measure::Cold, &[Unit::WattHour, Unit::Joule]),
    (Measure::EnergyImport, &[Unit::WattHour]),
    (Measure::EnergyExport, &[Unit::WattHour]),
    (Measure::Power, &[Unit::Watt, Unit::JoulePerHour]),
    (Measure::Flow, &[Unit::LitrePerHour]),
];

/// Whether a quantity can be in this unit.
pub(super) fn measures(measure: Measure, unit: Unit) -> bool {
    let (base, _) = unit.base();
    DIMENSIONS.iter().any(|(known, units)| *known == measure && units.contains(&base))
}

/// Second, minute, hour, day, month, year, century, two digits each; `None` when it is no time.
fn clock([second, minute, hour, day, month, year, century]: [u8; 7]) -> Option<NaiveDateTime> {
    let pair = |byte| bcd_byte(byte).map(u32::from);
    let year = pair(century)? * 100 + pair(year)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, pair(month)?, pair(day)?)?;
    date.and_hms_opt(pair(hour)?, pair(minute)?, pair(second)?).filter(|_| year >= 2000)
}
