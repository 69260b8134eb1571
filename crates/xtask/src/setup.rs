//! What a fresh Debian machine lacks: Debian packages, and the embedded ClickHouse engine.
//!
//! In: a machine with Rust. Out: the same machine with what the demo and the tests need, and a
//! word beforehand on what is fetched and how much. Never here: versions of Rust crates (Cargo.lock).

use crate::child;
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The engine: the package on the npm registry, its version, and what must come out of it.
const ENGINE_PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
const ENGINE_VERSION: &str = "26.7.3-stable.1";
const ENGINE_TARBALL_SHA512: &str = concat!(
    "5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35",
    "a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7"
);
const ENGINE_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
const ENGINE_DOWNLOAD_MB: u32 = 178;
const ENGINE_UNPACKED_MB: u32 = 566;

/// A Debian package, and how to see that it is there.
struct DebianPackage {
    name: &'static str,
    present: fn() -> bool,
    why: &'static str,
}

const DEBIAN: &[DebianPackage] = &[
    DebianPackage { name: "postgresql", present: has_postgres, why: "bills and the registry" },
    DebianPackage {
        name: "mosquitto",
        present: || on_path("mosquitto") || Path::new("/usr/sbin/mosquitto").exists(),
        why: "the MQTT broker",
    },
    DebianPackage {
        name: "libcoap3-bin",
        present: || on_path("coap-client-notls") || on_path("coap-client"),
        why: "an independent CoAP client for the tests",
    },
    DebianPackage {
        name: "util-linux",
        present: || on_path("setpriv") && on_path("runuser"),
        why: "children that end with their parent",
    },
];

/// Installs everything that is missing.
pub(crate) fn everything() -> Result<()> {
    debian_packages()?;
    engine()
}

fn debian_packages() -> Result<()> {
    let mut missing: Vec<&DebianPackage> = DEBIAN.iter().filter(|p| !(p.present)()).collect();
    let npm = DebianPackage { name: "npm", present: || on_path("npm"), why: "fetches the engine" };
    if !engine_path()?.exists() && !(npm.present)() {
        missing.push(&npm);
    }
    if missing.is_empty() {
        println!("setup: Debian packages are all there");
        return Ok(());
    }
    if !is_root() && !on_path("sudo") {
        let names: Vec<_> = missing.iter().map(|package| package.name).collect();
        bail!("as root, run: apt-get install {}", names.join(" "));
    }
    println!("setup: reading the package lists");
    child::run(apt().args(["update", "-qq"]))?;
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    for package in &missing {
        println!("setup: will install {} ({})", package.name, package.why);
    }
    let plan = child::printed(
        apt()
            .args(["install", "-y", "--no-install-recommends", "--print-uris", "-qq"])
            .args(&names),
    )?;
    // Lines are: 'uri' file size checksum
    let sizes = plan.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
    let (files, bytes) = sizes.fold((0_u32, 0_u64), |(n, sum), size| (n + 1, sum + size));
    println!("setup: downloading {files} Debian packages, {} MB", bytes.div_ceil(1_000_000));
    let quiet_services = QuietServices::begin()?;
    child::run(apt().args(["install", "-y", "--no-install-recommends", "-qq"]).args(&names))?;
    drop(quiet_services);
    for package in missing {
        if !(package.present)() {
            bail!("{} is installed, yet what it should bring is not there", package.name);
        }
    }
    Ok(())
}

fn engine() -> Result<()> {
    let library = engine_path()?;
    if library.exists() {
        println!("setup: the embedded ClickHouse engine is there");
        return Ok(());
    }
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        bail!(
            "the embedded engine exists for Linux on x86-64 only: set CLICKHOUSE_URL to a server"
        );
    }
    println!(
        "setup: downloading the embedded ClickHouse engine {ENGINE_PACKAGE}@{ENGINE_VERSION}, \
         {ENGINE_DOWNLOAD_MB} MB, {ENGINE_UNPACKED_MB} MB unpacked"
    );
    let home = library.parent().context("the engine's folder")?;
    let staging = home.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    let done = fetch_engine(&staging).and_then(|()| {
        fs::rename(&staging, home)
            .or_else(|error| if library.exists() { Ok(()) } else { Err(error) })
            .with_context(|| format!("move the engine to {}", home.display()))
    });
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    done
}

fn fetch_engine(staging: &Path) -> Result<()> {
    let wanted = format!("{ENGINE_PACKAGE}@{ENGINE_VERSION}");
    let packed = child::printed(
        Command::new("npm").args(["pack", "--loglevel=error", &wanted]).current_dir(staging),
    )?;
    let tarball = staging.join(packed.trim().lines().last().context("npm names no file")?);
    expect_sum("sha512sum", &tarball, ENGINE_TARBALL_SHA512)?;
    child::run(
        Command::new("tar")
            .arg("xzf")
            .arg(&tarball)
            .args(["--strip-components=1", "--no-same-owner"])
            .current_dir(staging),
    )?;
    fs::remove_file(&tarball)?;
    let library = staging.join("libchdb.so");
    if !library.exists() {
        let found = child::printed(Command::new("find").arg(staging).args([
            "-name",
            "libchdb.so",
            "-print",
            "-quit",
        ]))?;
        fs::rename(found.trim(), &library).context("find libchdb.so in the package")?;
    }
    expect_sum("sha256sum", &library, ENGINE_SHA256)
}

fn expect_sum(tool: &str, file: &Path, expected: &str) -> Result<()> {
    let said = child::printed(Command::new(tool).arg(file))?;
    let found = said.split_whitespace().next().unwrap_or_default();
    if found != expected {
        bail!("{}: {tool} is {found}, expected {expected}", file.display());
    }
    Ok(())
}

/// Where the engine lies once it is fetched; `embedded` looks there too.
fn engine_path() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHDB_LIB") {
        return Ok(path.into());
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set: where may a cache lie?")?;
    Ok(cache.join("tidemark/libchdb").join(ENGINE_VERSION).join("libchdb.so"))
}

/// While this lives, Debian starts no service for a package it installs: the demo and the tests
/// start private ones, and nothing must be left running.
struct QuietServices {
    created: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl QuietServices {
    fn begin() -> Result<Self> {
        if !is_root() || Path::new(POLICY).exists() {
            return Ok(Self { created: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
        fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self { created: true })
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if self.created {
            drop(fs::remove_file(POLICY));
        }
    }
}

fn apt() -> Command {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn has_postgres() -> bool {
    fs::read_dir("/usr/lib/postgresql").is_ok_and(|versions| {
        versions.flatten().any(|version| version.path().join("bin/postgres").exists())
    })
}
