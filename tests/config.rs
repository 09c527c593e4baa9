//! The configuration of the example sidecar, as an operator meets it: through `sidecar check`. The unit
//! tests of the two modules run here as well, as the examples themselves are not built as tests.

#[path = "../examples/sidecar/cli.rs"]
mod cli;
#[path = "../examples/sidecar/config/mod.rs"]
mod config;

mod sidecar_binary;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use sidecar_binary::SIDECAR;

fn sidecar(arguments: &[&str]) -> Output {
    Command::new(&*SIDECAR).args(arguments).output().unwrap()
}

/// A file that is there for as long as the value is.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("evenkeel-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn printed(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

const GOOD: &str = "[[listener]]\nname = 'l'\nbind = '127.0.0.1:0'\ncluster = 'blackhole'\n";

#[test]
fn check_says_ok_and_exits_with_0() {
    let file = TemporaryFile::new("good.toml", GOOD);
    let output = sidecar(&["check", "--config", file.path()]);
    assert_eq!(printed(&output.stdout), format!("{}: ok\n", file.path()));
    assert_eq!(printed(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_prints_every_error_with_its_place_and_exits_with_1() {
    let text = format!("shards = -1\npinn = 'auto'\n{GOOD}idle = '1h'\n");
    let file = TemporaryFile::new("bad.toml", &text);
    let output = sidecar(&["check", "--config", file.path()]);
    let path = file.path();
    let expected = format!(
        "{path}:1:10: error: `shards`: expected a whole number from 0 to 1024, found -1\n\
         {path}:2:1: error: unknown key `pinn` at the top level; did you mean `pin`?\n\
         {path}:7:1: error: unknown key `idle` in [[listener]]; it belongs in [listener.timeouts]\n"
    );
    assert_eq!(printed(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_warns_and_exits_with_0() {
    let file = TemporaryFile::new("warned.toml", &format!("admin = '0.0.0.0:15000'\n{GOOD}"));
    let output = sidecar(&["check", "--config", file.path()]);
    let said = printed(&output.stdout);
    assert!(said.starts_with(&format!("{}:1:9: warning: whoever reaches", file.path())), "{said}");
    assert!(said.ends_with(&format!("{}: ok\n", file.path())), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_of_no_file_exits_with_1() {
    let output = sidecar(&["check", "--config", "/nowhere/sidecar.toml"]);
    let said = printed(&output.stdout);
    assert!(said.starts_with("/nowhere/sidecar.toml: error: cannot be read: "), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_check_prints_checks_as_well() {
    let file = TemporaryFile::new("printed.toml", GOOD);
    let first = sidecar(&["check", "--print", "--config", file.path()]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let again = TemporaryFile::new("printed-again.toml", printed(&first.stdout));
    let second = sidecar(&["check", "--print", "--config", again.path()]);
    assert_eq!(printed(&second.stdout), printed(&first.stdout));
    assert!(printed(&first.stdout).contains("deadline = \"30s\""), "{first:?}");
}

#[test]
fn wrong_usage_exits_with_2_and_points_to_the_help() {
    for arguments in [&["frobnicate"][..], &["check"], &["run", "--once"], &["--config", "f"]] {
        let output = sidecar(arguments);
        let said = printed(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.starts_with("sidecar: ") && said.contains("sidecar --help"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(printed(&output.stdout), "");
    }
}

#[test]
fn help_and_version_are_printed() {
    let help = sidecar(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run --config FILE", "check --config FILE", "iptables print|apply|remove"] {
        assert!(printed(&help.stdout).contains(command), "{help:?}");
    }
    let version = sidecar(&["--version"]);
    assert_eq!(printed(&version.stdout), concat!("sidecar ", env!("CARGO_PKG_VERSION"), "\n"));
}
