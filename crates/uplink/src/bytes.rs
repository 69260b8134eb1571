//! Reading bytes that came from outside: every step is checked and knows its offset.
//!
//! In: a slice. Out: numbers and digits, or an error that names offset and need.
//! Never here: what the numbers mean.

use crate::UplinkError;

/// A position in a frame. `base` is where the slice begins in the payload, for error offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { rest: bytes, offset: base }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(
        &mut self,
        length: usize,
        what: &'static str,
    ) -> Result<&'a [u8], UplinkError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(UplinkError::Truncated {
                what,
                offset: self.offset + self.rest.len(),
                need: length.saturating_sub(self.rest.len()),
            });
        };
        self.rest = rest;
        self.offset += length;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], UplinkError> {
        let offset = self.offset;
        self.take(N, what)?.try_into().map_err(|_| UplinkError::Truncated { what, offset, need: N })
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, UplinkError> {
        self.array::<1>(what).map(|[byte]| byte)
    }
}

/// The number in packed decimal digits, least significant byte first. At most 8 bytes.
///
/// # Errors
/// The position of the first byte that is not two decimal digits.
pub(crate) fn bcd_le(bytes: &[u8]) -> Result<u64, usize> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().enumerate().rev() {
        let (high, low) = (byte >> 4, byte & 0x0F);
        if high > 9 || low > 9 {
            return Err(position);
        }
        value = value.wrapping_mul(100).wrapping_add(u64::from(high) * 10 + u64::from(low));
    }
    Ok(value)
}

/// The two decimal digits of one byte.
pub(crate) const fn bcd_byte(byte: u8) -> Option<u8> {
    let (high, low) = (byte >> 4, byte & 0x0F);
    if high > 9 || low > 9 { None } else { Some(high * 10 + low) }
}

/// Writes `value` as packed decimal digits, least significant byte first; `None` when it has more
/// digits than fit.
pub(crate) fn put_bcd_le(out: &mut Vec<u8>, value: u64, bytes: usize) -> Option<()> {
    let mut rest = value;
    for _ in 0..bytes {
        let pair = u8::try_from(rest % 100).ok()?;
        out.push(((pair / 10) << 4) | (pair % 10));
        rest /= 100;
    }
    (rest == 0).then_some(())
}

/// Capital hex digits, as protocol documents write them.
pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(upper_digit).collect()
}

/// Small hex digits, as LoRaWAN documents write them.
pub(crate) fn hex_lower(bytes: &[u8]) -> String {
    hex_upper(bytes).to_ascii_lowercase()
}

fn upper_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('?').to_ascii_uppercase()
}

/// The bytes of a text of hex digits, both cases, nothing else.
///
/// # Errors
/// The position of the first character that is no hex digit, or the length of an odd text.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>, usize> {
    let digits = text.as_bytes();
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if let Some(position) = digits.iter().position(|byte| nibble(*byte).is_none()) {
        return Err(position);
    }
    if !digits.len().is_multiple_of(2) {
        return Err(digits.len());
    }
    Ok(digits
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [high, low] => Some((nibble(*high)? << 4) | nibble(*low)?),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_that_are_none_are_refused_where_they_stand() {
        assert_eq!(bcd_le(&[0x00, 0x77, 0x66, 0x55]), Ok(55_667_700));
        assert_eq!(bcd_le(&[0x00, 0x7A]), Err(1));
        assert_eq!(bcd_byte(0x59), Some(59));
        assert_eq!(bcd_byte(0xA0), None);
        assert_eq!(from_hex("0aFf"), Ok(vec![10, 255]));
        assert_eq!(from_hex("0g"), Err(1));
        assert_eq!(from_hex("abc"), Err(3));
    }

    proptest! {
        #[test]
        fn digits_read_back(value in 0_u64..10_000_000_000) {
            let mut bytes = Vec::new();
            prop_assert_eq!(put_bcd_le(&mut bytes, value, 5), Some(()));
            prop_assert_eq!(bcd_le(&bytes), Ok(value));
        }

        #[test]
        fn hex_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (upper, lower) = (hex_upper(&bytes), hex_lower(&bytes));
            prop_assert_eq!(from_hex(&upper), Ok(bytes.clone()));
            prop_assert_eq!(from_hex(&lower), Ok(bytes));
        }
    }
}
