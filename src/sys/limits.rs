//! What the system allows this process: file descriptors, locked memory, capabilities, and what may refuse io_uring.
//!
//! **In**: limits and files of this process and of the kernel. **Out**: plain values for decisions and messages.
//! **Never** decides anything itself, and changes one thing only, on request: the soft limit of open files.

use std::{fs, io};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// A resource limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is in force.
    pub soft: Option<u64>,
    /// How far it may be raised.
    pub hard: Option<u64>,
}

impl From<Rlimit> for Limit {
    fn from(limit: Rlimit) -> Self {
        Limit { soft: limit.current, hard: limit.maximum }
    }
}

/// RLIMIT_NOFILE: one more than the highest file descriptor number that this process may open.
pub fn open_files() -> Limit {
    getrlimit(Resource::Nofile).into()
}

/// RLIMIT_MEMLOCK in bytes. Rings are charged to it, summed over all processes of the user, unless the process has
/// CAP_IPC_LOCK.
pub(crate) fn locked_memory() -> Limit {
    getrlimit(Resource::Memlock).into()
}

/// What [`raise_open_files`] did. Soft limits; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Before.
    pub from: Option<u64>,
    /// Now.
    pub to: Option<u64>,
}

/// Raises the soft limit of open files to the hard one, which needs no privilege. Programs that use select(2) break
/// on descriptors above 1,023; nothing here does, but an embedder's other code may, so it is done on request only.
pub fn raise_open_files() -> io::Result<Raised> {
    let Limit { soft, hard } = open_files();
    if soft != hard {
        setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    }
    Ok(Raised { from: soft, to: hard })
}

/// File descriptors that this process has open.
pub fn open_file_count() -> io::Result<u64> {
    // Since Linux 6.2 the directory's size is the count, without walking it (proc_pid_fd(5)).
    let counted = fs::metadata("/proc/self/fd")?.len();
    if counted > 0 {
        return Ok(counted);
    }
    let entries = fs::read_dir("/proc/self/fd")?.count() as u64;
    Ok(entries.saturating_sub(1)) // without the descriptor that reads the directory
}

/// The effective capabilities of the calling thread that matter here.
///
/// They are those of its user namespace: in a container with a user namespace of its own, `net_admin` may still be
/// refused where the network namespace belongs to the host. A hint for messages, not a promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// CAP_NET_ADMIN: transparent sockets, SO_MARK.
    pub net_admin: bool,
    /// CAP_IPC_LOCK: rings are not charged to RLIMIT_MEMLOCK.
    pub ipc_lock: bool,
}

/// Reads them with capget(2). None, where even that is refused.
pub fn capabilities_of_thread() -> Capabilities {
    let Ok(sets) = capabilities(None) else { return Capabilities::default() };
    Capabilities {
        net_admin: sets.effective.contains(CapabilitySet::NET_ADMIN),
        ipc_lock: sets.effective.contains(CapabilitySet::IPC_LOCK),
    }
}

/// `kernel.io_uring_disabled` (Documentation/admin-guide/sysctl/kernel.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoUringSysctl {
    /// 0, or the kernel is older than the setting (6.6).
    Allowed,
    /// 1: only with CAP_SYS_ADMIN, or in the group that `kernel.io_uring_group` names.
    Restricted,
    /// 2: for nobody.
    Disabled,
    /// A value that this crate does not know, or a file that cannot be read.
    Unknown,
}

pub(crate) fn io_uring_sysctl() -> IoUringSysctl {
    match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(text) => parse_io_uring_sysctl(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => IoUringSysctl::Allowed,
        Err(_) => IoUringSysctl::Unknown,
    }
}

fn parse_io_uring_sysctl(text: &str) -> IoUringSysctl {
    match text.trim() {
        "0" => IoUringSysctl::Allowed,
        "1" => IoUringSysctl::Restricted,
        "2" => IoUringSysctl::Disabled,
        _ => IoUringSysctl::Unknown,
    }
}

/// Whether seccomp looks at the calling thread's system calls (the `Seccomp:` line of proc_pid_status(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seccomp {
    Off,
    Strict,
    /// A filter is installed: the usual reason for EPERM from io_uring_setup(2) in a container.
    Filter,
    /// The kernel was built without it, or `/proc` is not there.
    Unknown,
}

pub(crate) fn seccomp() -> Seccomp {
    fs::read_to_string("/proc/thread-self/status")
        .map_or(Seccomp::Unknown, |status| parse_seccomp(&status))
}

fn parse_seccomp(status: &str) -> Seccomp {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    match mode.map(str::trim) {
        Some("0") => Seccomp::Off,
        Some("1") => Seccomp::Strict,
        Some("2") => Seccomp::Filter,
        _ => Seccomp::Unknown,
    }
}

/// The kernel's release, such as `6.12.9-amd64`. For messages only: features are found out by trying them.
pub(crate) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seccomp_line_is_found_among_its_neighbours() {
        let status =
            |mode| format!("Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t{mode}\nSeccomp_filters:\t7\n");
        for (mode, expected) in [
            ("0", Seccomp::Off),
            ("1", Seccomp::Strict),
            ("2", Seccomp::Filter),
            ("9", Seccomp::Unknown),
        ] {
            assert_eq!(parse_seccomp(&status(mode)), expected);
        }
        assert_eq!(parse_seccomp("Seccomp_filters:\t2\n"), Seccomp::Unknown);
    }

    #[test]
    fn the_io_uring_sysctl_is_told_apart() {
        for (text, expected) in [
            ("0\n", IoUringSysctl::Allowed),
            ("1\n", IoUringSysctl::Restricted),
            ("2\n", IoUringSysctl::Disabled),
            ("3\n", IoUringSysctl::Unknown),
            ("", IoUringSysctl::Unknown),
        ] {
            assert_eq!(parse_io_uring_sysctl(text), expected, "{text:?}");
        }
    }

    #[test]
    fn raising_open_files_reaches_the_hard_limit() {
        let before = open_files();
        assert_eq!(raise_open_files().unwrap(), Raised { from: before.soft, to: before.hard });
        assert_eq!(open_files(), Limit { soft: before.hard, hard: before.hard });
    }

    #[test]
    fn open_files_are_counted() {
        // Other tests open and close files meanwhile: more of ours than they can close makes the difference plain.
        let before = open_file_count().unwrap();
        let files: Vec<_> = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_file_count().unwrap() >= before + 100);
        drop(files);
    }

    #[test]
    fn capabilities_agree_with_proc() {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let bits = u64::from_str_radix(line.trim(), 16).unwrap();
        let expected =
            Capabilities { net_admin: bits >> 12 & 1 == 1, ipc_lock: bits >> 14 & 1 == 1 };
        assert_eq!(capabilities_of_thread(), expected);
    }

    #[test]
    fn the_release_is_the_kernels_own() {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(kernel_release(), release.trim());
    }
}
