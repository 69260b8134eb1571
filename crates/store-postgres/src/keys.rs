//! Device keys at rest: sealed with AES-256-GCM under a master key the caller holds.
//!
//! In: a device key and what it is for. Out: nonce and sealed bytes, and the way back.
//! Never here: where the master key comes from, SQL.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use model::SecretKey;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The key that seals device keys in the database. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct MasterKey {
    id: String,
    seal: [u8; 32],
    nonce: [u8; 32],
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.seal.zeroize();
        self.nonce.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// Text that is not a master key. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// The id is empty or longer than 64 bytes.
    #[error("a master key needs an id of 1 to 64 bytes")]
    Id,
    /// The key is not 64 hex digits.
    #[error("a master key is 64 hex digits")]
    NotHex,
}

/// A sealed key that does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Sealed under another master key.
    #[error("sealed under master key {sealed_under:?}, given is {given:?}")]
    OtherMasterKey {
        /// The id stored with the sealed key.
        sealed_under: String,
        /// The id of the master key at hand.
        given: String,
    },
    /// Same id, but the bytes do not open: another key under the same id, or the row was changed.
    #[error("the sealed bytes do not open under master key {given:?}")]
    Damaged {
        /// The id of the master key at hand.
        given: String,
    },
}

/// What a device key is for; part of what is sealed, so that rows cannot be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Uplink,
    NwkSKey,
    AppSKey,
}

impl Purpose {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::NwkSKey => "nwk_s_key",
            Self::AppSKey => "app_s_key",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        [Self::Uplink, Self::NwkSKey, Self::AppSKey].into_iter().find(|p| p.name() == name)
    }
}

pub(crate) struct Sealed {
    pub(crate) nonce: [u8; 12],
    pub(crate) bytes: Vec<u8>,
}

impl MasterKey {
    /// The master key `id` with these bytes. Sealing and nonces each get their own key from it.
    ///
    /// # Errors
    /// When the id is empty or too long.
    pub fn new(id: &str, bytes: &[u8; 32]) -> Result<Self, MasterKeyError> {
        if id.is_empty() || id.len() > 64 {
            return Err(MasterKeyError::Id);
        }
        let derive = |label: &[u8]| {
            let mut hash = Sha256::new();
            hash.update(label);
            hash.update(bytes);
            hash.finalize().into()
        };
        Ok(Self {
            id: id.to_owned(),
            seal: derive(b"tidemark device key sealing v1"),
            nonce: derive(b"tidemark device key nonce v1\0\0"),
        })
    }

    /// The master key `id` with the bytes in `hex` (64 digits).
    ///
    /// # Errors
    /// When the id is empty or too long, or the text is not 64 hex digits.
    pub fn from_hex(id: &str, hex: &str) -> Result<Self, MasterKeyError> {
        let bytes = crate::registry_file::hex::<32>(hex).map_err(|_| MasterKeyError::NotHex)?;
        Self::new(id, &Zeroizing::new(bytes))
    }

    /// The id stored with what it seals.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals `key` for this meter and purpose. The nonce is a keyed hash of everything sealed:
    /// the same key gives the same row (an import repeated changes nothing), another key another
    /// nonce, and no random numbers are needed. `None` only if the cipher refuses 16 bytes.
    pub(crate) fn seal(&self, meter: &str, purpose: Purpose, key: &SecretKey) -> Option<Sealed> {
        let about = self.about(meter, purpose);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.nonce).ok()?;
        mac.update(&about);
        mac.update(key.expose());
        let (nonce, _) = mac
            .finalize()
            .into_bytes()
            .as_slice()
            .split_first_chunk::<12>()
            .map(|(nonce, rest)| (*nonce, rest.len()))?;
        let payload = Payload { msg: key.expose().as_slice(), aad: &about };
        let bytes = self.cipher().encrypt(&Nonce::from(nonce), payload).ok()?;
        Some(Sealed { nonce, bytes })
    }

    pub(crate) fn unseal(
        &self,
        meter: &str,
        purpose: Purpose,
        sealed_under: &str,
        nonce: &[u8],
        bytes: &[u8],
    ) -> Result<SecretKey, UnsealError> {
        if sealed_under != self.id {
            return Err(UnsealError::OtherMasterKey {
                sealed_under: sealed_under.to_owned(),
                given: self.id.clone(),
            });
        }
        let damaged = || UnsealError::Damaged { given: self.id.clone() };
        let nonce: [u8; 12] = nonce.try_into().map_err(|_| damaged())?;
        let payload = Payload { msg: bytes, aad: &self.about(meter, purpose) };
        let plain = self.cipher().decrypt(&Nonce::from(nonce), payload).map_err(|_| damaged())?;
        let plain = Zeroizing::new(plain);
        plain.as_slice().try_into().map(SecretKey::new).map_err(|_| damaged())
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.seal.into())
    }

    fn about(&self, meter: &str, purpose: Purpose) -> Vec<u8> {
        [self.id.as_str(), purpose.name(), meter].join("\0").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(id: &str, byte: u8) -> MasterKey {
        MasterKey::new(id, &[byte; 32]).unwrap()
    }

    #[test]
    fn a_sealed_key_opens_only_where_it_belongs() {
        let key = SecretKey::new([0xA5; 16]);
        let sealed = master("2026", 1).seal("M1", Purpose::Uplink, &key).unwrap();
        assert_eq!(sealed.bytes.len(), 32);
        let open = |master: MasterKey, meter, purpose| {
            master.unseal(meter, purpose, "2026", &sealed.nonce, &sealed.bytes)
        };
        assert_eq!(open(master("2026", 1), "M1", Purpose::Uplink).unwrap(), key);
        assert!(open(master("2026", 2), "M1", Purpose::Uplink).is_err(), "another master key");
        assert!(open(master("2026", 1), "M2", Purpose::Uplink).is_err(), "another meter's row");
        assert!(open(master("2026", 1), "M1", Purpose::AppSKey).is_err(), "another purpose");
        assert_eq!(
            open(master("2027", 1), "M1", Purpose::Uplink).unwrap_err().to_string(),
            "sealed under master key \"2026\", given is \"2027\""
        );
        let mut bent = sealed.bytes.clone();
        bent[0] ^= 1;
        assert!(
            master("2026", 1).unseal("M1", Purpose::Uplink, "2026", &sealed.nonce, &bent).is_err()
        );
    }

    #[test]
    fn sealing_twice_gives_the_same_row_and_equal_keys_of_two_meters_do_not_show() {
        let key = SecretKey::new([7; 16]);
        let once = master("k", 9).seal("M1", Purpose::Uplink, &key).unwrap();
        let twice = master("k", 9).seal("M1", Purpose::Uplink, &key).unwrap();
        let other = master("k", 9).seal("M2", Purpose::Uplink, &key).unwrap();
        assert_eq!((once.nonce, &once.bytes), (twice.nonce, &twice.bytes));
        assert_ne!(once.nonce, other.nonce);
        assert_ne!(once.bytes, other.bytes);
    }

    #[test]
    fn a_master_key_is_never_printed() {
        let text = "a5".repeat(32);
        assert_eq!(format!("{:?}", MasterKey::from_hex("k", &text).unwrap()), "MasterKey(k)");
        assert_eq!(MasterKey::from_hex("k", "a5").unwrap_err(), MasterKeyError::NotHex);
        assert_eq!(MasterKey::from_hex("", &text).unwrap_err(), MasterKeyError::Id);
    }
}
