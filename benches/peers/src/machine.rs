//! Where and by what a report was made.

use std::fs;
use std::process::Command;

use crate::peers::envoy;

/// The peers that are crates are of these versions.
const LOCK: &str = include_str!("../Cargo.lock");

/// Date, machine, kernel, versions of the peers, and the command, as Markdown.
pub(crate) fn preamble(cpus: usize) -> String {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        // nginx says it on stderr.
        let text = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
        Some(format!("`{line}`"))
    };
    let system = rustix::system::uname();
    let versions = [
        first_line("nginx", &["-v"]),
        first_line("haproxy", &["-v"]),
        Some(format!("Envoy of `{}`", envoy::WHEEL)),
        first_line("rustc", &["--version"]),
    ];
    let crates = ["tokio", "monoio", "glommio", "pingora-proxy", "rustls"]
        .iter()
        .filter_map(|name| Some(format!("{name} {}", locked_version(name)?)));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "{}. Linux {} on {}, {cpus} CPUs of the model {}. {}.\n\n\
         ```sh\ncargo run --release --manifest-path benches/peers/Cargo.toml -- {}\n```\n\n\
         Each peer is a fresh process for every run, and the peers run in turns. Values are medians of \
         the runs, ratios medians of the ratios within a round, in brackets the confidence interval of \
         at least 95 % (from order statistics, so without any assumption about distributions; absent \
         below six rounds). CPU time is that of all threads and processes of the proxy. The split into \
         user and system is sampled by the timer tick. Raw numbers: `runs.csv`.",
        first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default().trim_matches('`'),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
        cpu_model().unwrap_or_else(|| "unknown".to_owned()),
        versions.into_iter().flatten().chain(crates).collect::<Vec<_>>().join(", "),
        arguments.join(" "),
    )
}

fn locked_version(name: &str) -> Option<&'static str> {
    let package = LOCK
        .split("[[package]]")
        .find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))?;
    package.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
