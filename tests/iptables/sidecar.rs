//! Calling the program under test, the tools it calls, and whether this machine has what it takes.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::namespace::Namespace;
use super::sidecar_binary::SIDECAR;

/// Whether the test `name` can run here. Where not, says so, and fails in CI.
pub(crate) fn possible(name: &str) -> bool {
    static MISSING: LazyLock<Option<String>> = LazyLock::new(missing);
    let Some(reason) = MISSING.as_ref() else { return true };
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{name} cannot run: {reason}");
    // Not eprintln!, which the test runner would keep to itself.
    io::stderr().write_all(format!("SKIPPED {name}: {reason}\n").as_bytes()).unwrap();
    false
}

/// What is missing for making namespaces and rules, if anything.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let name = format!("evenkeel-probe-{}", std::process::id());
    let probe = format!(
        "set -e; ip netns add {name}; trap 'ip netns del {name}' EXIT
         for tool in iptables ip6tables; do
           printf '*nat\\nCOMMIT\\n*mangle\\nCOMMIT\\n' | ip netns exec {name} $tool-restore --test
         done; command -v setpriv"
    );
    match Command::new("sh").args(["-c", &probe]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Some(error.to_string()),
    }
}

/// `sidecar iptables` with some words, not yet run.
pub(crate) fn sidecar(line: &str) -> Command {
    let mut command = Command::new(&*SIDECAR);
    command.arg("iptables").args(line.split_ascii_whitespace());
    command
}

/// `sidecar iptables` in `namespace`; must succeed. Returns what it said.
pub(crate) fn done(namespace: &Namespace, line: &str) -> String {
    succeeded(line, namespace.output(&mut sidecar(line)))
}

pub(crate) fn succeeded(line: &str, output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Must have failed with `code`. Returns what it said.
pub(crate) fn failed(code: i32, output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

/// A folder of programs to stand before, or instead of, those in PATH; taken away when dropped.
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("evenkeel-tools-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    /// Both iptables of the machine, each if it is there.
    pub(crate) fn backends() -> Vec<Self> {
        let backends = ["nft", "legacy"].into_iter().filter_map(|backend| {
            let tools = Self::new();
            for tool in ["iptables", "ip6tables"] {
                for verb in ["save", "restore"] {
                    let program = find(&format!("{tool}-{backend}-{verb}"))?;
                    symlink(program, tools.folder.join(format!("{tool}-{verb}"))).unwrap();
                }
            }
            Some(tools)
        });
        let backends: Vec<Self> = backends.collect();
        assert!(!backends.is_empty(), "neither iptables-nft nor iptables-legacy");
        backends
    }

    /// The machine's own program.
    pub(crate) fn with(self, program: &str) -> Self {
        symlink(find(program).unwrap(), self.folder.join(program)).unwrap();
        self
    }

    /// A shell script; in it, `$real` is the machine's own program and `$here` the folder.
    pub(crate) fn script(self, program: &str, text: &str) -> Self {
        let real = find(program).unwrap();
        let (real, here) = (real.display(), self.folder.display());
        let path = self.folder.join(program);
        fs::write(&path, format!("#!/bin/sh\nreal={real} here={here}\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// `command` finds these before the machine's own.
    pub(crate) fn first<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let rest = env::var_os("PATH").unwrap();
        let path = [self.folder.clone()].into_iter().chain(env::split_paths(&rest));
        command.env("PATH", env::join_paths(path).unwrap())
    }

    /// `command` finds nothing but these.
    pub(crate) fn only<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PATH", &self.folder)
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| Path::is_file(path))
}
