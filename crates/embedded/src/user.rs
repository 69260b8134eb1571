//! Running a program as somebody harmless.
//!
//! In: who may be asked. Out: a command that runs as that user and ends with us.
//! Never here: which program.

use crate::StartError;
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Command, Stdio},
};

/// Numbers of the Linux capabilities that let a process enter any directory, the weaker first.
const ENTER_ANY: [(u32, &str); 2] = [(2, "+dac_read_search"), (1, "+dac_override")];

/// Whom a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// As we do: we are not root.
    Ourselves,
    /// As another, because we are root and the server must not be.
    Other(User),
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl RunAs {
    /// Ourselves, or when we are root the first of `names` that exists.
    pub(crate) fn choose(server: &'static str, names: &[&str]) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        names
            .iter()
            .find_map(|name| find(&passwd, name))
            .map(Self::Other)
            .ok_or_else(|| StartError::NoUser { server, users: names.join(", ") })
    }

    /// `program` as this user, signalled with `death_signal` when the starting thread ends; in the
    /// root directory, without input. `dir` is a directory it must be able to enter.
    pub(crate) fn command(
        &self,
        program: &OsStr,
        death_signal: &str,
        dir: &Path,
    ) -> Result<Command, StartError> {
        let mut command = setpriv();
        command.args(["--pdeathsig", death_signal, "--no-new-privs"]);
        if let Self::Other(user) = self {
            command.args(user.arguments());
            if !user.may_enter(dir, None) {
                let unreachable = || StartError::Unreachable {
                    user: user.name.clone(),
                    data_dir: dir.to_owned(),
                };
                let capability = capability()
                    .filter(|c| user.may_enter(dir, Some(c)))
                    .ok_or_else(unreachable)?;
                command.args(with_capability(capability));
            }
        }
        command.arg("--").arg(program);
        command.current_dir("/").stdin(Stdio::null());
        Ok(command)
    }

    /// Gives a file or directory to this user.
    pub(crate) fn own(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Other(user) => chown(path, Some(user.uid), Some(user.gid)),
        }
    }
}

impl User {
    fn arguments(&self) -> [String; 3] {
        [
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.gid),
            "--clear-groups".to_owned(),
        ]
    }

    /// Asks the kernel, as that user.
    fn may_enter(&self, dir: &Path, capability: Option<&str>) -> bool {
        let mut command = setpriv();
        command.args(self.arguments());
        if let Some(capability) = capability {
            command.args(with_capability(capability));
        }
        command.args(["--", "test", "-x"]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn setpriv() -> Command {
    Command::new("setpriv")
}

fn with_capability(capability: &str) -> [String; 2] {
    [format!("--inh-caps={capability}"), format!("--ambient-caps={capability}")]
}

/// The weakest capability of ours that lets a process enter a directory closed to its user, such
/// as one below `/root`.
fn capability() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let ours = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let ours = u64::from_str_radix(ours.trim(), 16).ok()?;
    ENTER_ANY.iter().find(|(bit, _)| ours >> bit & 1 == 1).map(|(_, name)| *name)
}

fn find(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let mut numbers = fields.skip(1);
        let uid = numbers.next()?.parse().ok()?;
        let gid = numbers.next()?.parse().ok()?;
        Some(User { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\npostgres:x:5:6:::\n";
        let user = User { name: "postgres".to_owned(), uid: 5, gid: 6 };
        assert_eq!(find(passwd, "postgres"), Some(user));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
