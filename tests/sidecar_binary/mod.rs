//! The sidecar's program, for tests to run.
//!
//! In: how the test itself was built. Out: the path of the example, built the same way. Never a program
//! that is older than its sources: cargo decides, each time that a test program starts.

use std::{env, path::PathBuf, process::Command, sync::LazyLock};

/// The example, built as this test was: `cargo test` does not promise to build examples that have
/// tests of their own, and builds none at all if it is asked for one test.
pub(crate) static SIDECAR: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "sidecar"]).arg("--manifest-path");
    build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    // Other features than the test's would have cargo build the library once more.
    if cfg!(feature = "bytes") {
        build.args(["--features", "bytes"]);
    }
    // With --target, its name is a folder above.
    let above = folder.parent().unwrap();
    let above_name = above.file_name().unwrap().to_str().unwrap();
    let target = match above_name.contains("-linux-") {
        true => {
            build.args(["--target", above_name]);
            above.parent().unwrap()
        }
        false => above,
    };
    build.arg("--target-dir").arg(target);
    assert!(build.status().unwrap().success(), "the example does not build");
    folder.join("examples/sidecar")
});
