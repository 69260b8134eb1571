//! Rebuilds the crate when a migration is added: the files are compiled in.
//!
//! In: nothing. Out: a line for cargo. Never here: code generation.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
