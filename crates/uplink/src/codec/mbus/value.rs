//! How a value is coded: the data types of EN 13757-3 annex A.
//!
//! In: the bytes of one record's data. Out: an exact number, a date, a text, or nothing.
//! Never here: what the value means (see `vif`), float arithmetic.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// A value as the meter codes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The meter says there is none, by one of the patterns for it.
    None,
    /// `count` × 10^`exponent`.
    Number {
        /// The digits.
        count: i64,
        /// The power of ten.
        exponent: i8,
    },
    /// A date (type G).
    Date(NaiveDate),
    /// A date with a time of day (types F and I), in the meter's local time.
    DateTime(NaiveDateTime),
    /// A time of day (type J).
    Time(NaiveTime),
    /// A text, first character first.
    Text(String),
    /// Anything else, as sent.
    Bytes(Vec<u8>),
}

/// A whole number.
const fn whole(count: i64) -> Value {
    Value::Number { count, exponent: 0 }
}

/// A binary number, low byte first, with sign (type B). The lowest number means "no value".
pub(super) fn signed(bytes: &[u8]) -> Value {
    let Some((top, _)) = bytes.split_last() else {
        return Value::None;
    };
    let fill = if top & 0x80 == 0 { 0x00 } else { 0xFF };
    let mut wide = [fill; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    let lowest = *top == 0x80 && bytes.iter().rev().skip(1).all(|byte| *byte == 0);
    if bytes.len() > wide.len() {
        Value::Bytes(bytes.to_vec())
    } else if lowest {
        Value::None
    } else {
        whole(i64::from_le_bytes(wide))
    }
}

/// A binary number, low byte first, without sign (types C and D).
pub(super) fn unsigned(bytes: &[u8]) -> Value {
    let mut wide = [0_u8; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    match i64::try_from(u64::from_le_bytes(wide)) {
        Ok(count) if bytes.len() <= wide.len() => whole(count),
        _ => Value::Bytes(bytes.to_vec()),
    }
}

/// Packed decimal digits, low byte first (type A). A top digit F is a minus sign; any other digit
/// above 9 means "no value" (an LCD shows those as dashes or letters).
pub(super) fn bcd(bytes: &[u8]) -> Value {
    let mut count = 0_i64;
    let mut negative = false;
    let digits = bytes.iter().rev().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    for (position, digit) in digits.enumerate() {
        let digit = match digit {
            0..=9 => digit,
            0x0F if position == 0 => {
                negative = true;
                0
            }
            _ => return Value::None,
        };
        let next = count.checked_mul(10).and_then(|count| count.checked_add(i64::from(digit)));
        let Some(next) = next else {
            return Value::Bytes(bytes.to_vec());
        };
        count = next;
    }
    whole(if negative { -count } else { count })
}

/// A 32-bit real (type H). Whole numbers are exact; others become the shortest decimal number
/// that reads back to the same 32 bits, which is what the meter's maker wrote down.
pub(super) fn real(bits: u32) -> Value {
    let real = f32::from_bits(bits);
    if !real.is_finite() {
        return Value::None;
    }
    let text = format!("{real:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return Value::None;
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let count = format!("{before}{after}").parse::<i64>();
    let exponent = exponent
        .parse::<i32>()
        .map(|power| power.saturating_sub(i32::try_from(after.len()).unwrap_or(i32::MAX)));
    match (count, exponent) {
        (Ok(_), Ok(0..)) => exact_whole(bits),
        (Ok(count), Ok(exponent)) => match i8::try_from(exponent) {
            Ok(exponent @ -100..) => Value::Number { count, exponent },
            _ => whole(0),
        },
        _ => Value::None,
    }
}

/// The whole number a real stands for: sign, 24-bit mantissa and a shift; nothing is rounded.
fn exact_whole(bits: u32) -> Value {
    let mantissa = i64::from((bits & 0x007F_FFFF) | 0x0080_0000);
    let shift = i64::from(bits >> 23 & 0xFF) - 150;
    let magnitude = match u32::try_from(shift.unsigned_abs()) {
        _ if bits & 0x7FFF_FFFF == 0 => Some(0),
        Ok(left @ 0..39) if shift >= 0 => mantissa.checked_mul(1 << left),
        Ok(right @ 0..24) if shift < 0 => Some(mantissa >> right),
        _ => None,
    };
    match magnitude {
        Some(magnitude) => whole(if bits >> 31 == 1 { -magnitude } else { magnitude }),
        None => Value::None,
    }
}

/// A date or time by its length: 2 bytes G, 3 J, 4 F, 6 I. One that is not in the calendar, or
/// that the meter flags invalid, is no value. The summer-time bit is not added: the profile's
/// offset is what the meter's clock shows.
pub(super) fn date(bytes: &[u8]) -> Value {
    match *bytes {
        [b0, b1] => day(b0, b1, None).map_or(Value::None, Value::Date),
        [second, minute, hour] => {
            time(hour & 0x1F, minute & 0x3F, second & 0x3F).map_or(Value::None, Value::Time)
        }
        [minute, hour, b0, b1] if minute & 0x80 == 0 => {
            let at = time(hour & 0x1F, minute & 0x3F, 0);
            join(day(b0, b1, Some(hour >> 5 & 0x03)), at)
        }
        [second, minute, hour, b0, b1, _] if minute & 0x80 == 0 => {
            join(day(b0, b1, None), time(hour & 0x1F, minute & 0x3F, second & 0x3F))
        }
        [_, _, _, _] | [_, _, _, _, _, _] => Value::None,
        _ => Value::Bytes(bytes.to_vec()),
    }
}

fn join(day: Option<NaiveDate>, at: Option<NaiveTime>) -> Value {
    match (day, at) {
        (Some(day), Some(at)) => Value::DateTime(day.and_time(at)),
        _ => Value::None,
    }
}

/// Day, month and seven bits of year spread over two bytes. Type F has the century too, but its
/// 0 stands for 2000 up to year 80, as older meters send it.
fn day(b0: u8, b1: u8, century: Option<u8>) -> Option<NaiveDate> {
    let year = i32::from((b1 & 0xF0) >> 1 | b0 >> 5);
    let year = match century {
        None | Some(0) if year <= 80 => 2000 + year,
        None | Some(0) => 1900 + year,
        Some(century) => 1900 + 100 * i32::from(century) + year,
    };
    let day = NaiveDate::from_ymd_opt(year, u32::from(b1 & 0x0F), u32::from(b0 & 0x1F))?;
    (b1 & 0xF0 != 0xF0).then_some(day)
}

fn time(hour: u8, minute: u8, second: u8) -> Option<NaiveTime> {
    NaiveTime::from_hms_opt(u32::from(hour), u32::from(minute), u32::from(second))
}

/// How many bytes of data follow the LVAR byte; `None` for a reserved one.
pub(super) const fn variable_bytes(lvar: u8) -> Option<usize> {
    Some(match lvar {
        0x00..=0xBF => lvar as usize,
        0xC0..=0xC9 => (lvar - 0xC0) as usize,
        0xD0..=0xD9 => (lvar - 0xD0) as usize,
        0xE0..=0xEF => (lvar - 0xE0) as usize,
        0xF0..=0xF4 => 4 * (lvar - 0xEC) as usize,
        0xF5 => 48,
        0xF6 => 64,
        _ => return None,
    })
}

/// A value of variable length: text (latin-1, last character first), digits, or a number.
pub(super) fn variable(lvar: u8, bytes: &[u8]) -> Value {
    match lvar {
        0x00..=0xBF => Value::Text(text(bytes)),
        0xC0..=0xC9 => bcd(bytes),
        0xD0..=0xD9 => {
            let digits = bcd(bytes);
            let Value::Number { count, exponent } = digits else {
                return digits;
            };
            Value::Number { count: -count, exponent }
        }
        0xE0..=0xEF => signed(bytes),
        _ => Value::Bytes(bytes.to_vec()),
    }
}

/// Characters as sent last first.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(count: i64, exponent: i8) -> Value {
        Value::Number { count, exponent }
    }

    #[test]
    fn numbers_keep_their_sign_and_no_value_stays_none() {
        assert_eq!(signed(&[0xFE, 0xFF]), whole(-2));
        assert_eq!(signed(&[0x00, 0x00, 0x80]), Value::None);
        assert_eq!(signed(&[0xFF; 8]), whole(-1));
        assert_eq!(unsigned(&[0xFE, 0xFF]), whole(65_534));
        assert_eq!(bcd(&[0x02, 0x00, 0xF0]), whole(-2));
        assert_eq!(bcd(&[0x21, 0x43]), whole(4_321));
        assert_eq!(bcd(&[0xFF, 0xFF]), Value::None);
        assert_eq!(bcd(&[0x3A, 0x00]), Value::None);
        assert_eq!(variable(0xD1, &[0x12]), whole(-12));
        assert_eq!(variable(0x03, b"RH%"), Value::Text("%HR".to_owned()));
    }

    #[test]
    fn reals_are_decimal_without_arithmetic() {
        assert_eq!(real(0x4039_999A), number(29, -1));
        assert_eq!(real(0x0000_0000), whole(0));
        assert_eq!(real(0x8000_0000), whole(0));
        assert_eq!(real(0x4CEB_79A3), whole(123_456_792));
        assert_eq!(real(0xC2C8_0000), whole(-100));
        assert_eq!(real(0xBF00_0000), number(-5, -1));
        assert_eq!(real(0x7FC0_0000), Value::None);
        assert_eq!(real(0xFF80_0000), Value::None);
        assert_eq!(real(0x7F7F_FFFF), Value::None);
    }

    #[test]
    fn dates_outside_the_calendar_are_none() {
        let on = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        assert_eq!(date(&[0xBF, 0x2C]), Value::Date(on(2021, 12, 31)));
        assert_eq!(date(&[0xFF, 0xFF]), Value::None);
        assert_eq!(date(&[0x00, 0x00]), Value::None);
        let at = on(2021, 10, 12).and_hms_opt(8, 7, 0).unwrap();
        assert_eq!(date(&[0x07, 0x08, 0xAC, 0x2A]), Value::DateTime(at));
        assert_eq!(date(&[0x07, 0x28, 0xAC, 0x2A]), Value::DateTime(at));
        assert_eq!(date(&[0x87, 0x08, 0xAC, 0x2A]), Value::None);
        let at = on(2021, 10, 12).and_hms_opt(8, 7, 59).unwrap();
        assert_eq!(date(&[59, 7, 8, 0xAC, 0x2A, 0]), Value::DateTime(at));
        assert_eq!(date(&[1, 2, 3]), Value::Time(NaiveTime::from_hms_opt(3, 2, 1).unwrap()));
    }

    proptest! {
        #[test]
        fn a_real_reads_back_to_the_same_bits(bits: u32) {
            if let Value::Number { count, exponent } = real(bits) {
                let back: f32 = format!("{count}e{exponent}").parse().unwrap();
                prop_assert!(back.to_bits() == bits || count == 0, "{bits:08X}: {count}e{exponent}");
            }
        }

        #[test]
        fn no_bytes_panic_as_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..70), lvar: u8) {
            let _all = (signed(&bytes), unsigned(&bytes), bcd(&bytes), date(&bytes), variable(lvar, &bytes));
        }
    }
}
