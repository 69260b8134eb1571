//! Names and passwords nobody can guess.
//!
//! In: a length. Out: hexadecimal digits from the kernel.
//! Never here: anything that must be repeatable.

use std::{
    collections::hash_map::RandomState,
    fmt::Write,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::Read,
};

/// `bytes` random bytes as lower-case hexadecimal digits, two per byte.
pub(crate) fn hex(bytes: usize) -> String {
    let mut raw = vec![0_u8; bytes];
    let filled = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut raw));
    if filled.is_err() {
        // Seeded by the kernel too, through the standard library.
        for byte in &mut raw {
            let [first, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
            *byte = first;
        }
    }
    raw.iter().fold(String::with_capacity(bytes.saturating_mul(2)), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_differ() {
        assert_eq!(hex(8).len(), 16);
        assert_ne!(hex(8), hex(8));
    }
}
