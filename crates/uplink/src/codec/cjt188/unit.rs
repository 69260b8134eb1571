//! Unit codes (CJ/T 188 appendix A): base units with their tenfold and hundredfold.
//!
//! In: a code or a unit. Out: the other. Never here: which unit a quantity may have (see `table`).

use model::Unit;

/// The code of the plain unit; the next two codes are its tenfold and its hundredfold.
const BASES: &[(u8, Unit)] = &[
    (0x02, Unit::WattHour),
    (0x05, Unit::KilowattHour),
    (0x08, Unit::MegawattHour),
    (0x0B, Unit::Kilojoule),
    (0x0E, Unit::Megajoule),
    (0x11, Unit::Gigajoule),
    (0x14, Unit::Watt),
    (0x17, Unit::Kilowatt),
    (0x1A, Unit::Megawatt),
    (0x29, Unit::Litre),
    (0x2C, Unit::CubicMetre),
    (0x32, Unit::LitrePerHour),
    (0x35, Unit::CubicMetrePerHour),
    (0x40, Unit::JoulePerHour),
    (0x43, Unit::KilojoulePerHour),
    (0x46, Unit::MegajoulePerHour),
    (0x49, Unit::GigajoulePerHour),
];

const JOULE: u8 = 0x01;

/// The unit of a code, and the power of ten before it.
pub(super) fn unit(code: u8) -> Option<(Unit, i8)> {
    if code == JOULE {
        return Some((Unit::Joule, 0));
    }
    BASES.iter().find_map(|(base, unit)| match code.checked_sub(*base) {
        Some(0) => Some((*unit, 0)),
        Some(1) => Some((*unit, 1)),
        Some(2) => Some((*unit, 2)),
        _ => None,
    })
}

/// The code of a unit with a power of ten of 0, 1 or 2 before it.
pub(super) fn code(unit: Unit, power: u8) -> Option<u8> {
    if unit == Unit::Joule && power == 0 {
        return Some(JOULE);
    }
    let (base, _) = BASES.iter().find(|(_, known)| *known == unit)?;
    (power <= 2).then(|| base + power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_unit_and_back() {
        let mut known = 0;
        for byte in 0..=u8::MAX {
            if let Some((found, power)) = unit(byte) {
                assert_eq!(code(found, u8::try_from(power).unwrap()), Some(byte));
                known += 1;
            }
        }
        assert_eq!(known, 1 + 3 * BASES.len());
        assert_eq!(unit(0x2C), Some((Unit::CubicMetre, 0)));
        assert_eq!(unit(0x2B), Some((Unit::Litre, 2)));
        assert_eq!(unit(0x00), None);
    }
}
