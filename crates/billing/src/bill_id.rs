//! The id of a bill follows from what the bill is for.
//!
//! In: account, cycle, kind, revision. Out: 128 bits, a UUID of version 8.
//! Never here: random numbers, clocks: a repeated run must find its own bills again.

use crate::BillKey;
use chrono::Datelike;
use model::BillId;
use sha2::{Digest, Sha256};

/// First bytes of what is hashed: a new recipe needs a new name.
const RECIPE: &[u8] = b"tidemark bill 1\0";

/// The id of the bill with this key: the first 16 bytes of SHA-256 over the recipe's name and the
/// key's fields at fixed width, with the version and variant bits of a UUID of version 8 (RFC 9562 §5.8).
pub(crate) fn bill_id(key: &BillKey) -> BillId {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(key.account.number().to_be_bytes());
    hash.update(key.cycle.from().num_days_from_ce().to_be_bytes());
    hash.update(key.cycle.until().num_days_from_ce().to_be_bytes());
    hash.update(key.revision.to_be_bytes());
    hash.update(key.kind.name().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let number =
        digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let version = (number & !(0xF << 76)) | (0x8 << 76);
    let variant = (version & !(0x3 << 62)) | (0x2 << 62);
    BillId::new(variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BillKind;
    use model::{AccountId, Period};

    fn key(account: u32, from: &str, kind: BillKind, revision: u16) -> BillKey {
        let cycle = Period::new(from.parse().unwrap(), "2027-01-01".parse().unwrap()).unwrap();
        BillKey { account: AccountId::new(account), cycle, kind, revision }
    }

    #[test]
    fn a_repeated_run_finds_its_own_bill() {
        let first = key(1, "2026-06-01", BillKind::Regular, 0);
        assert_eq!(first.id(), key(1, "2026-06-01", BillKind::Regular, 0).id());
        // The recipe itself: bills in databases carry ids made with it.
        assert_eq!(first.id().to_string(), "d9e938a2d28d863baaf35e0194620cba");
        for other in [
            key(2, "2026-06-01", BillKind::Regular, 0),
            key(1, "2026-06-02", BillKind::Regular, 0),
            key(1, "2026-06-01", BillKind::Final, 0),
            key(1, "2026-06-01", BillKind::Regular, 1),
        ] {
            assert_ne!(first.id(), other.id(), "{other:?}");
        }
    }

    #[test]
    fn the_id_is_a_uuid_of_version_8() {
        for account in 0..100 {
            let text = key(account, "2026-06-01", BillKind::Regular, 0).id().to_string();
            assert_eq!(&text[12..13], "8", "{text}");
            assert!("89ab".contains(&text[16..17]), "{text}");
        }
    }
}
