//! The sidecar's program, for tests to run.

use std::{env, path::PathBuf, process::Command, sync::LazyLock};

/// The example, built as this test was: `cargo test` does not promise to build examples that have
/// tests of their own.
pub(crate) static SIDECAR: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "sidecar"]).arg("--manifest-path");
    build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    // With --target, its name is a folder above.
    let above = folder.parent().unwrap().file_name().unwrap().to_str().unwrap();
    if above.contains("-linux-") {
        build.args(["--target", above]);
    }
    assert!(build.status().unwrap().success(), "the example does not build");
    folder.join("examples/sidecar")
});
