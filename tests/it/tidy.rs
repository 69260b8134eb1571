//! The map of the house, checked: who may use whom, which rooms know no I/O, that every file says
//! what it is for, and that nothing we use forbids us to ship it.
//!
//! In: every `Cargo.toml`, every source file, cargo's metadata. Out: pass or fail.
//! Never here: what the code does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What a crate may use among our own; `*` is any. The table of `docs/architecture.md`.
const MAP: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("uplink", &["model"]),
    ("vee", &["model"]),
    ("determinants", &["model"]),
    ("rating", &["model"]),
    ("billing", &["model", "rating"]),
    ("receivables", &["model"]),
    ("spool", &[]),
    ("store-clickhouse", &["model"]),
    ("store-postgres", &["model", "rating", "billing", "receivables"]),
    ("coap-gateway", &["model", "uplink", "spool"]),
    ("ingest", &["model", "uplink", "vee", "spool", "store-clickhouse"]),
    (
        "billrun",
        &[
            "model",
            "determinants",
            "rating",
            "billing",
            "receivables",
            "store-clickhouse",
            "store-postgres",
        ],
    ),
    (
        "web-console",
        &["model", "vee", "rating", "billing", "receivables", "store-clickhouse", "store-postgres"],
    ),
    ("embedded", &[]),
    ("tidemark", &["*"]),
    ("xtask", &[]),
];

/// Rooms that decide and never wait.
const PURE: &[&str] =
    &["model", "uplink", "vee", "determinants", "rating", "billing", "receivables"];

/// What a pure room may not name.
const RIM_ONLY: &[&str] = &[
    "tokio",
    "tokio-util",
    "sqlx",
    "clickhouse",
    "axum",
    "hyper",
    "rumqttc",
    "clap",
    "anyhow",
    "tracing-subscriber",
    "metrics",
];

/// The only crate that may hold `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["embedded"];

/// Licences we may ship with (any one of an `OR`).
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(room: &str) -> toml::Table {
    let path = root().join("crates").join(room).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).parse().unwrap()
}

fn uses(room: &str, section: &str) -> BTreeSet<String> {
    manifest(room)
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn rooms() -> BTreeSet<String> {
    fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_room_is_on_the_map_and_the_other_way_round() {
    let on_map: BTreeSet<String> = MAP.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms(), on_map);
}

#[test]
fn rooms_use_only_what_the_map_allows() {
    let ours = rooms();
    for (room, allowed) in MAP {
        if allowed == &["*"] {
            continue;
        }
        let used: BTreeSet<String> =
            uses(room, "dependencies").intersection(&ours).cloned().collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
        let stray: Vec<_> = used.difference(&allowed).collect();
        assert!(stray.is_empty(), "{room} may not use {stray:?}; see docs/architecture.md");
    }
}

#[test]
fn a_room_is_named_like_its_folder() {
    for room in rooms() {
        assert_eq!(manifest(&room)["package"]["name"].as_str(), Some(room.as_str()));
    }
}

#[test]
fn pure_rooms_know_no_io() {
    for room in PURE {
        for section in ["dependencies", "build-dependencies"] {
            for banned in RIM_ONLY {
                assert!(!uses(room, section).contains(*banned), "{room} must not use {banned}");
            }
        }
    }
}

#[test]
fn only_embedded_may_be_unsafe() {
    for room in rooms() {
        let own_lints = manifest(&room)["lints"].get("workspace").is_none();
        assert!(
            !own_lints || MAY_BE_UNSAFE.contains(&room.as_str()),
            "{room}: write `[lints] workspace = true`"
        );
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for part in ["crates", "simulators", "benches", "tests"] {
        sources(&root().join(part), &mut found);
    }
    found
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let found = all_sources();
    assert!(found.len() > 40, "the walk found only {} files", found.len());
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{}: open with //!", path.display());
        let is_room = path.ends_with("src/lib.rs");
        assert!(
            !is_room || text.contains("Never here"),
            "{}: say what comes in, what goes out, what is never here",
            path.display()
        );
    }
}

#[test]
fn no_source_file_is_a_whole_house() {
    for path in all_sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 800, "{}: {lines} lines; is this one room?", path.display());
    }
}

#[test]
fn the_map_in_the_documentation_is_this_map() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let mut documented = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(room), Some(may_use)) = (cells.first(), cells.get(2)) else { continue };
        let uses: BTreeSet<String> = may_use
            .split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
            .filter(|name| !name.is_empty() && name != "–")
            .collect();
        documented.insert(room.trim_matches('`').to_owned(), uses);
    }
    for (room, allowed) in MAP {
        let allowed: BTreeSet<String> =
            allowed.iter().map(|a| if *a == "*" { "any" } else { *a }.to_owned()).collect();
        assert_eq!(documented.get(*room), Some(&allowed), "docs/architecture.md: {room}");
    }
}

#[test]
fn everything_we_use_may_be_shipped() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .unwrap();
    for package in &metadata.packages {
        if metadata.workspace_members.contains(&package.id) {
            continue;
        }
        let licence = package.license.clone().unwrap_or_default().replace('/', " OR ");
        let fine = licence.split(" OR ").any(|choice| {
            choice.split(" AND ").all(|part| LICENCES.contains(&part.trim_matches(['(', ')', ' '])))
        });
        assert!(fine, "{} {}: licence {licence:?}", package.name, package.version);
    }
}
