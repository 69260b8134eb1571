//! Where cargo builds this crate's examples, which tests run as processes of their own.
//!
//! In: a name. Out: a command. Never here: what the example does.

use std::{path::PathBuf, process::Command};

/// The example `name`, built beside the running test.
pub(crate) fn example(name: &str) -> Command {
    let ourselves = std::env::current_exe().unwrap();
    let built: PathBuf = ourselves.parent().and_then(|deps| deps.parent()).unwrap().into();
    let program = built.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not built: run `cargo build -p embedded --examples` first",
        program.display()
    );
    Command::new(program)
}
