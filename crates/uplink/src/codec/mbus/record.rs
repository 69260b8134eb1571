//! The walker: one record after the other, whatever the meter.
//!
//! In: the application data of a telegram in clear. Out: records that borrow from it.
//! Never here: anything about one meter model (see `vif` for the tables, `map` for registers).
//!
//! A record is `DIF [DIFE…] VIF [text] [VIFE…] [LVAR] data` (EN 13757-3 §6). At most ten DIFEs and
//! ten VIFEs; FB and FD take the first VIFE as the code.

use super::value::{self, Value};
use super::vif::{self, Aspect, Combined, Meaning, Table, Vif};
use crate::UplinkError;
use crate::bytes::Reader;

/// Most DIFEs, and most VIFEs, of one record.
const EXTENSIONS_MAX: usize = 10;

/// Longest unit text of one record.
const TEXT_MAX: usize = 63;

/// Most records of one telegram; a telegram of 255 bytes cannot hold more.
pub const RECORDS_MAX: usize = 256;

const FILLER: u8 = 0x2F;
const MANUFACTURER_DATA: u8 = 0x0F;
const MORE_FOLLOWS: u8 = 0x1F;
const EXTENDED: u8 = 0x80;

/// Which value of the period a record holds (DIF bits 5 and 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// The value now, or at the storage's time.
    Instantaneous,
    /// The greatest.
    Maximum,
    /// The least.
    Minimum,
    /// The value during an error.
    Error,
}

impl Function {
    const ALL: [Self; 4] = [Self::Instantaneous, Self::Maximum, Self::Minimum, Self::Error];

    /// Bits 5 and 4 of the DIF.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Instantaneous => 0,
            Self::Maximum => 1,
            Self::Minimum => 2,
            Self::Error => 3,
        }
    }

    fn of(dif: u8) -> Self {
        let wanted = dif >> 4 & 0x03;
        Self::ALL.into_iter().find(|f| f.code() == wanted).unwrap_or(Self::Error)
    }
}

/// One record, as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins.
    pub offset: usize,
    /// DIF, DIFEs, VIF, text and VIFEs: what stays the same from telegram to telegram.
    pub head: &'a [u8],
    /// The first byte.
    pub dif: u8,
    /// Storage number.
    pub storage: u64,
    /// Tariff.
    pub tariff: u32,
    /// Sub-unit.
    pub subunit: u16,
    /// Which table the code belongs to.
    pub table: Table,
    /// The code in that table.
    pub code: u8,
    /// The unit as text, last character first, where the code says it is one.
    pub unit_text: &'a [u8],
    /// The VIFEs behind the code.
    pub vifes: &'a [u8],
    /// The LVAR byte, where the length is variable.
    pub lvar: Option<u8>,
    /// The value's bytes.
    pub data: &'a [u8],
}

impl Record<'_> {
    /// The head of the first record in `heads`, which hold nothing else.
    pub(super) fn head_of(heads: &[u8]) -> Option<&[u8]> {
        let mut reader = Reader::new(heads, 0);
        Head::read(&mut reader).ok()?;
        heads.get(..reader.offset())
    }

    /// Whether it is a maker's own block to the end of the telegram.
    #[must_use]
    pub const fn is_manufacturer_data(&self) -> bool {
        matches!(self.dif, MANUFACTURER_DATA | MORE_FOLLOWS)
    }

    /// Which value of the period it holds.
    #[must_use]
    pub fn function(&self) -> Function {
        Function::of(self.dif)
    }

    /// The row of its code; `None` for text units, a maker's own codes and reserved ones.
    #[must_use]
    pub fn vif(&self) -> Option<&'static Vif> {
        vif::vif(self.table, self.code)
    }

    /// Whose register its value is, by its VIFEs.
    #[must_use]
    pub fn aspect(&self) -> Aspect {
        self.combined().aspect
    }

    /// Behind a maker's own code the VIFEs are the maker's own too.
    pub(super) fn combined(&self) -> Combined {
        let vifes = if self.table == Table::Manufacturer { &[] } else { self.vifes };
        vif::combine(vifes)
    }

    /// The value, with the power of ten of its code and VIFEs in it.
    ///
    /// A counter whose bits are all ones has no value: real meters fill storages they have not
    /// reached yet so, and as a number it would be minus one.
    #[must_use]
    pub fn value(&self) -> Value {
        if self.is_manufacturer_data() {
            return Value::Bytes(self.data.to_vec());
        }
        let combined = self.combined();
        let vif = self.vif();
        let means = vif.map_or(Meaning::Info, |vif| vif.means);
        if combined.failed || self.data.is_empty() && self.lvar.is_none() {
            return Value::None;
        }
        let raw = match (self.dif & 0x0F, means) {
            (1..=4 | 6 | 7, Meaning::Date) => return value::date(self.data),
            (1..=4 | 6 | 7, Meaning::Bits | Meaning::ErrorFlags) => value::unsigned(self.data),
            (1..=4 | 6 | 7, _) if self.is_unreached_counter(means) => Value::None,
            (1..=4 | 6 | 7, _) => value::signed(self.data),
            (5, _) => <[u8; 4]>::try_from(self.data)
                .map_or(Value::None, |bytes| value::real(u32::from_le_bytes(bytes))),
            (0x09..=0x0C | 0x0E, _) => value::bcd(self.data),
            _ => value::variable(self.lvar.unwrap_or_default(), self.data),
        };
        let Value::Number { count, exponent } = raw else {
            return raw;
        };
        let (first, base, factor) =
            vif.map_or((self.code, 0, 1), |vif| (vif.first, vif.exponent, vif.factor));
        let step = i8::try_from(self.code.saturating_sub(first)).unwrap_or(0);
        let exponent =
            [base, step, combined.exponent].into_iter().fold(exponent, i8::saturating_add);
        match count.checked_mul(factor) {
            Some(count) => Value::Number { count, exponent },
            None => Value::None,
        }
    }

    fn is_unreached_counter(&self, means: Meaning) -> bool {
        let counts = match means {
            Meaning::Energy | Meaning::Volume => true,
            Meaning::Is(measure) => measure.is_cumulative(),
            Meaning::Date | Meaning::Bits | Meaning::ErrorFlags | Meaning::Info => false,
        };
        counts && self.data.iter().all(|byte| *byte == 0xFF)
    }
}

/// The records of application data, in order; ends at the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    body: &'a [u8],
    base: usize,
    reader: Reader<'a>,
    count: usize,
    broken: bool,
}

impl<'a> Records<'a> {
    /// The records of `body`, which begins at `base` of its telegram.
    #[must_use]
    pub const fn new(body: &'a [u8], base: usize) -> Self {
        Self { body, base, reader: Reader::new(body, base), count: 0, broken: false }
    }

    fn read(&mut self) -> Result<Option<Record<'a>>, UplinkError> {
        while self.reader.remaining().first() == Some(&FILLER) {
            self.reader.u8("filler")?;
        }
        if self.reader.remaining().is_empty() {
            return Ok(None);
        }
        if self.count == RECORDS_MAX {
            let got = self.count + 1;
            return Err(UplinkError::Oversized { what: "records", got, limit: RECORDS_MAX });
        }
        self.count += 1;
        let offset = self.reader.offset();
        let mut head = Head::read(&mut self.reader)?;
        let heading = self
            .body
            .get(offset.saturating_sub(self.base)..self.reader.offset().saturating_sub(self.base));
        let length = match head.dif & 0x0F {
            0x0D => {
                let at = self.reader.offset();
                let lvar = self.reader.u8("LVAR")?;
                head.lvar = Some(lvar);
                value::variable_bytes(lvar).ok_or(UplinkError::Unsupported {
                    what: "variable length",
                    value: u64::from(lvar),
                    offset: at,
                })?
            }
            0x0F => self.reader.remaining().len(),
            kind => fixed_bytes(kind),
        };
        let data = self.reader.take(length, "data of a record")?;
        Ok(Some(Record {
            offset,
            head: heading.unwrap_or_default(),
            dif: head.dif,
            storage: head.storage,
            tariff: head.tariff,
            subunit: head.subunit,
            table: head.table,
            code: head.code,
            unit_text: head.unit_text,
            vifes: head.vifes,
            lvar: head.lvar,
            data,
        }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, UplinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let next = self.read().transpose();
        self.broken = matches!(next, Some(Err(_)) | None);
        next
    }
}

/// How long data of the types of fixed length is (DIF bits 3 to 0).
pub(super) const fn fixed_bytes(kind: u8) -> usize {
    match kind {
        0x01 | 0x09 => 1,
        0x02 | 0x0A => 2,
        0x03 | 0x0B => 3,
        0x04 | 0x05 | 0x0C => 4,
        0x06 | 0x0E => 6,
        0x07 => 8,
        _ => 0,
    }
}

/// What stands before the data.
struct Head<'a> {
    dif: u8,
    storage: u64,
    tariff: u32,
    subunit: u16,
    table: Table,
    code: u8,
    unit_text: &'a [u8],
    vifes: &'a [u8],
    lvar: Option<u8>,
}

impl<'a> Head<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, UplinkError> {
        let at = reader.offset();
        let dif = reader.u8("DIF")?;
        let mut head = Self {
            dif,
            storage: u64::from(dif >> 6 & 0x01),
            tariff: 0,
            subunit: 0,
            table: Table::Manufacturer,
            code: 0,
            unit_text: &[],
            vifes: &[],
            lvar: None,
        };
        if dif & 0x0F == 0x0F {
            return match dif {
                MANUFACTURER_DATA | MORE_FOLLOWS => Ok(head),
                _ => Err(unsupported("DIF", dif, at)),
            };
        }
        let difes = if dif & EXTENDED == 0 { &[] } else { extensions(reader, "DIFE")? };
        for (dife, place) in difes.iter().zip(0_u32..) {
            head.storage |= u64::from(dife & 0x0F) << (1 + 4 * place);
            head.tariff |= u32::from(dife >> 4 & 0x03) << (2 * place);
            head.subunit |= u16::from(dife >> 6 & 0x01) << place;
        }
        head.read_vib(reader)?;
        Ok(head)
    }

    fn read_vib(&mut self, reader: &mut Reader<'a>) -> Result<(), UplinkError> {
        let vif = reader.u8("VIF")?;
        let (table, code) = match vif & 0x7F {
            0x7B => (Table::Fb, None),
            0x7D => (Table::Fd, None),
            0x7C => (Table::Text, Some(vif)),
            0x7F => (Table::Manufacturer, Some(vif)),
            0x6F | 0x7E => (Table::Other, Some(vif)),
            _ => (Table::Primary, Some(vif)),
        };
        self.table = table;
        if table == Table::Text {
            let at = reader.offset();
            let length = reader.u8("length of a unit text")?;
            if usize::from(length) > TEXT_MAX {
                return Err(unsupported("length of a unit text", length, at));
            }
            self.unit_text = reader.take(usize::from(length), "unit text")?;
        }
        let vifes = if vif & EXTENDED == 0 { &[] } else { extensions(reader, "VIFE")? };
        (self.code, self.vifes) = match (code, vifes.split_first()) {
            (Some(code), _) => (code & 0x7F, vifes),
            // FB and FD without their extension bit name nothing; such meters exist.
            (None, None) => {
                self.table = Table::Other;
                (vif & 0x7F, vifes)
            }
            (None, Some((second, rest))) if self.table == Table::Fd && *second == 0xFD => {
                self.table = Table::FdFd;
                match rest.split_first() {
                    Some((code, rest)) => (code & 0x7F, rest),
                    None => (0x7D, rest),
                }
            }
            (None, Some((code, rest))) => (code & 0x7F, rest),
        };
        Ok(())
    }
}

/// Bytes up to and with the first that has no extension bit.
fn extensions<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], UplinkError> {
    let rest = reader.remaining();
    let length = rest.iter().take_while(|byte| *byte & EXTENDED != 0).count().saturating_add(1);
    if length > EXTENSIONS_MAX {
        let byte = rest.get(EXTENSIONS_MAX).copied().unwrap_or_default();
        return Err(UplinkError::Malformed {
            what,
            offset: reader.offset().saturating_add(EXTENSIONS_MAX),
            found: byte,
            expected: "at most ten extensions",
        });
    }
    reader.take(length, what)
}

fn unsupported(what: &'static str, byte: u8, offset: usize) -> UplinkError {
    UplinkError::Unsupported { what, value: u64::from(byte), offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Unit;
    use proptest::{collection::vec, prelude::*};

    fn all(bytes: &[u8]) -> Result<Vec<Record<'_>>, UplinkError> {
        Records::new(bytes, 0).collect()
    }

    #[test]
    fn a_record_says_storage_tariff_and_subunit() {
        // Storage 1 + 2*0 .. : C4 81 10 03 = storage bit, DIFE storage 1, DIFE tariff 1.
        let bytes = [0xC4, 0x81, 0x50, 0x03, 1, 0, 0, 0, 0x2F, 0x1B, 0x2B, 0x52, 0x28, 0x02];
        let records = all(&bytes).unwrap();
        let [first, second] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((first.storage, first.tariff, first.subunit), (3, 4, 2));
        assert_eq!(first.head, &bytes[..4]);
        assert_eq!(first.value(), Value::Number { count: 1, exponent: -3 });
        assert_eq!(second.function(), Function::Maximum);
        assert_eq!(second.vif().unwrap().unit, Unit::Kilowatt);
        assert_eq!(second.value(), Value::Number { count: 22_852, exponent: -3 });
    }

    #[test]
    fn a_counter_of_all_ones_has_no_value_but_a_temperature_has() {
        let value = |bytes: &[u8]| all(bytes).unwrap().first().unwrap().value();
        assert_eq!(value(&[0x04, 0x13, 0xFF, 0xFF, 0xFF, 0xFF]), Value::None);
        assert_eq!(value(&[0x0C, 0x13, 0xFF, 0xFF, 0xFF, 0xFF]), Value::None);
        let below_zero = Value::Number { count: -1, exponent: -1 };
        assert_eq!(value(&[0x02, 0x66, 0xFF, 0xFF]), below_zero);
        let scaled = Value::Number { count: -1, exponent: -2 };
        assert_eq!(value(&[0x02, 0xE6, 0x75, 0xFF, 0xFF]), scaled);
        assert_eq!(value(&[0x02, 0xFD, 0x97, 0x0F, 0x00, 0x00]), Value::None);
        let own = value(&[0x01, 0xFF, 0x0F, 5]);
        assert_eq!(own, Value::Number { count: 5, exponent: 0 });
        let text = value(&[0x02, 0xFC, 0x03, 0x48, 0x52, 0x25, 0x74, 0xD4, 0x11]);
        assert_eq!(text, Value::Number { count: 4_564, exponent: -2 });
    }

    #[test]
    fn broken_records_say_where() {
        let error = |bytes: &[u8]| all(bytes).unwrap_err();
        assert_eq!(error(&[0x04, 0x13, 1, 2]).to_string(), "data of a record needs 2 more bytes");
        assert_eq!(error(&[0x04, 0x13, 1, 2]).offset(), Some(4));
        assert_eq!(error(&[0x84]).to_string(), "DIFE needs 1 more bytes");
        assert_eq!(error(&[0x04]).to_string(), "VIF needs 1 more bytes");
        assert_eq!(error(&[0x3F]).code(), "unsupported");
        assert_eq!(error(&[0x0D, 0x78, 0xFE]).code(), "unsupported");
        assert_eq!(error(&[0x8B; 14]).code(), "malformed");
        assert_eq!(error(&[0x8B; 14]).offset(), Some(11));
        assert_eq!(error(&[0x02, 0xFC, 0xF3, 0x48]).offset(), Some(2));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_as_records(bytes in vec(any::<u8>(), 0..300)) {
            for record in Records::new(&bytes, 0).flatten() {
                let _value = (record.value(), record.aspect(), record.function());
                prop_assert!(record.offset < bytes.len());
            }
        }
    }
}
