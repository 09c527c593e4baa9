//! What an operator sees of a configuration: what is refused where and why, what every default is, and
//! that what is printed reads back.

use std::path::Path;

use proptest::prelude::*;

use super::{
    Config, Host, Loaded, load, parse,
    problem::Position,
    reload_refusals,
    schema::{Routing, Shards, Target},
};

mod refused;

/// Every key of this build, none at its default.
const EVERY_KEY: &str = include_str!("tests/every_key.toml");

/// Four CPUs, loopback and 10.0.0.1, all privileges.
fn host() -> Host {
    Host {
        own_address: |ip| ip.to_string() == "10.0.0.1",
        network_admin: true,
        cpus: vec![0, 1, 2, 3],
    }
}

fn unprivileged() -> Host {
    Host { network_admin: false, ..host() }
}

/// Reads `text`; `Err` has the lines that `check` prints, less the name of the file.
fn read(text: &str, host: &Host) -> Result<Loaded, Vec<String>> {
    parse(text, Path::new("f"), Path::new("/etc/evenkeel"), host)
        .map_err(|problems| lines(&problems.to_string()))
}

fn lines(problems: &str) -> Vec<String> {
    problems.lines().map(|line| line.strip_prefix("f:").unwrap().to_owned()).collect()
}

fn config(text: &str) -> Config {
    let loaded = read(text, &host()).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    assert_eq!(loaded.warnings.to_string(), "", "{text}");
    loaded.config
}

#[test]
fn nothing_written_is_every_default() {
    let Loaded { config, warnings } = read("", &host()).unwrap();
    assert_eq!(
        lines(&warnings.to_string()),
        ["1:1: warning: no [[listener]]: nothing will be accepted"]
    );
    let expected = r#"shards = 0
pin = "auto"
acceptors = 1
balance = "least-connections"
log = "info"
log_format = "text"
listener = []
cluster = []

[limits]
connections = 0
connections_per_shard = 0

[drain]
keep_accepting = "0s"
deadline = "30s"
"#;
    assert_eq!(config.to_toml().unwrap(), expected);
}

#[test]
fn listeners_and_clusters_have_defaults() {
    let config = config(
        r#"
        [[listener]]
        name = "outbound"
        bind = "127.0.0.1:15001"
        original_dst = "redirect"
        [[listener]]
        name = "inbound"
        bind = "[::]:15006"
        direction = "inbound"
        original_dst = "redirect"
        [[listener]]
        name = "plain"
        bind = "127.0.0.1:0"
        cluster = "web"
        [[listener]]
        name = "web"
        match = "*:80"
        via = "outbound"
        cluster = "web"
        [[listener]]
        name = "other"
        match = "*:81"
        via = "inbound"
        cluster = "passthrough"
        [[cluster]]
        name = "web"
        endpoints = ["127.0.0.1:8000"]
        "#,
    );
    let expected = r#"
[[listener]]
name = "outbound"
bind = "127.0.0.1:15001"
direction = "outbound"
original_dst = "redirect"
fallback = "passthrough"
source = "off"
mark = 0
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
via = "outbound"
name = "web"
match = "*:80"
cluster = "web"
max_connections = 0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
name = "inbound"
bind = "[::]:15006"
direction = "inbound"
original_dst = "redirect"
fallback = "passthrough"
source = ["127.0.0.6", "::6"]
mark = 0
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
via = "inbound"
name = "other"
match = "*:81"
cluster = "passthrough"
source = ["127.0.0.6", "::6"]
mark = 0
max_connections = 0

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[listener]]
name = "plain"
bind = "127.0.0.1:0"
direction = "outbound"
cluster = "web"
max_connections = 0
proxy_protocol = "off"

[listener.timeouts]
idle = "1h"
half_close = "1h"

[[cluster]]
name = "web"
endpoints = ["127.0.0.1:8000"]
source = "off"
mark = 0
proxy_protocol = "off"

[cluster.timeouts]
connect = "5s"
"#;
    let printed = config.to_toml().unwrap();
    let listeners = printed.find("\n[[listener]]").unwrap();
    assert_eq!(&printed[listeners..], expected);
}

#[test]
fn every_key_is_taken_and_reads_back() {
    let config = config(EVERY_KEY);
    let printed = config.to_toml().unwrap();
    assert_eq!(self::config(&printed), config, "{printed}");
    let said_otherwise = ["original_dst = \"none\"", "protocol = \"tcp\"", "endpoints = [{"];
    for line in EVERY_KEY.lines().filter(|line| line.contains('=')) {
        if said_otherwise.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        assert!(printed.contains(line), "{line} is not in what was made of it:\n{printed}");
    }
}

#[test]
fn the_dump_is_json_with_the_keys_of_the_file() {
    let dump: serde_json::Value = serde_json::from_str(&config(EVERY_KEY).dump().unwrap()).unwrap();
    assert_eq!(dump["cpus"], "1-3,0");
    assert_eq!(dump["listener"][0]["bind"], "0.0.0.0:15001");
    assert_eq!(dump["listener"][1]["via"], "outbound");
    assert_eq!(dump["cluster"][1]["timeouts"]["connect"], "250ms");
}

/// The keys that a build of the relay has, with the values of the reference.
#[test]
fn the_reference_is_taken() {
    let text = r#"
        cpus = "0-3,8"
        pin = "auto"
        acceptors = 1
        balance = "least-connections"
        admin = "127.0.0.1:15000"
        telemetry = "0.0.0.0:15090"
        log = "info"
        log_format = "text"
        [limits]
        connections = 0
        connections_per_shard = 0
        [drain]
        keep_accepting = "0s"
        deadline = "30s"
        [[listener]]
        name = "outbound"
        bind = "127.0.0.1:15001"
        direction = "outbound"
        original_dst = "redirect"
        fallback = "passthrough"
        protocol = "tcp"
        source = "127.0.0.6"
        mark = 1337
        max_connections = 0
        proxy_protocol = "off"
        [listener.timeouts]
        idle = "1h"
        half_close = "1h"
        [[listener]]
        name = "reviews"
        match = "10.0.0.7:9080"
        via = "outbound"
        protocol = "tcp"
        cluster = "reviews"
        [[cluster]]
        name = "reviews"
        endpoints = ["127.0.0.1:8000", { address = "127.0.0.2:80" }]
        source = "client"
        mark = 1337
        proxy_protocol = "off"
        [cluster.timeouts]
        connect = "5s"
        "#;
    let host = Host { cpus: (0..16).collect(), ..host() };
    let loaded = read(text, &host).unwrap();
    assert_eq!(loaded.warnings.to_string(), "");
    let Shards::Cpus(cpus) = &loaded.config.shards else { panic!("{:?}", loaded.config.shards) };
    assert_eq!(cpus.cpus(), [0, 1, 2, 3, 8]);
    // `shards = 0` only says that no number is given.
    assert!(read(&format!("shards = 0\n{text}"), &host).is_ok());
}

#[test]
fn direct_connections_need_a_cluster_of_the_listeners_own() {
    for (line, expected) in [
        ("", None),
        ("fallback = \"blackhole\"", None),
        ("cluster = \"passthrough\"", None),
        ("cluster = \"blackhole\"", Some(Target::Blackhole)),
        ("cluster = \"c\"", Some(Target::Cluster("c".into()))),
    ] {
        let text = format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\noriginal_dst = 'redirect'\n{line}\n\
             [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']"
        );
        let config = read(&text, &host()).unwrap().config;
        let Routing::OriginalDestination(interception) = &config.listeners[0].routing else {
            panic!("{line}");
        };
        assert_eq!(interception.direct(), expected.as_ref(), "{line}");
    }
}

#[test]
fn one_family_of_a_source_leaves_the_other_at_its_default() {
    for (direction, source, expected) in [
        ("inbound", "'127.0.0.7'", "source = [\"127.0.0.7\", \"::6\"]"),
        ("inbound", "'::7'", "source = [\"127.0.0.6\", \"::7\"]"),
        ("inbound", "['::7', '127.0.0.7']", "source = [\"127.0.0.7\", \"::7\"]"),
        ("inbound", "'off'", "source = \"off\""),
        ("outbound", "'127.0.0.7'", "source = \"127.0.0.7\""),
    ] {
        let text = format!(
            "[[listener]]\nname = 'l'\nbind = '[::]:1'\noriginal_dst = 'redirect'\n\
             direction = '{direction}'\nsource = {source}"
        );
        let printed = read(&text, &host()).unwrap().config.to_toml().unwrap();
        assert!(printed.contains(expected), "{direction} {source}:\n{printed}");
    }
}

#[test]
fn durations_have_units() {
    for (written, expected) in [
        ("5s", "5s"),
        ("100ms", "100ms"),
        ("1h", "1h"),
        ("90m", "90m"),
        ("120s", "2m"),
        ("1h30m", "90m"),
        ("1m500ms", "60500ms"),
        ("8760h", "8760h"),
        ("off", "off"),
    ] {
        let text = format!(
            "[[listener]]\nname = 'l'\nbind = 'fd:3'\ncluster = 'blackhole'\n\
             timeouts.idle = '{written}'"
        );
        let printed = config(&text).to_toml().unwrap();
        assert!(printed.contains(&format!("idle = \"{expected}\"")), "{written}:\n{printed}");
    }
}

#[test]
fn a_relative_path_is_relative_to_the_file() {
    let directory = std::env::temp_dir().join(format!("evenkeel-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("sidecar.toml");
    let text = "[[listener]]\nname = 'l'\nbind = 'unix:run.sock'\ncluster = 'blackhole'\n";
    std::fs::write(&file, text).unwrap();
    let loaded = load(&file, &Host::current());
    std::fs::write(&file, b"log = 'info'\n# \xff").unwrap();
    let not_text = load(&file, &Host::current());
    std::fs::remove_dir_all(&directory).unwrap();

    let bind = loaded.unwrap().config.listeners[0].bind.to_string();
    assert_eq!(bind, format!("unix:{}", directory.join("run.sock").display()));
    let expected = format!("{}:2:3: error: not UTF-8, which TOML has to be\n", file.display());
    assert_eq!(not_text.unwrap_err().to_string(), expected);
    let gone = load(&file, &Host::current()).unwrap_err().to_string();
    assert!(gone.starts_with(&format!("{}: error: cannot be read: ", file.display())), "{gone}");
}

#[test]
fn a_reload_cannot_change_what_the_threads_stand_on() {
    let old = config(EVERY_KEY);
    assert_eq!(reload_refusals(&old, &old), []);
    let refused = |from: &str, to: &str| {
        assert!(EVERY_KEY.contains(from));
        let new = read(&EVERY_KEY.replace(from, to), &host()).unwrap().config;
        assert_ne!(old, new);
        reload_refusals(&old, &new).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let refusal = |key: &str, running: &str, wanted: &str| {
        format!(
            "`{key}` cannot change by a reload (from {running} to {wanted}): restart the sidecar"
        )
    };
    assert_eq!(
        refused("cpus = \"1-3,0\"", "shards = 2"),
        [refusal("shards", "nothing", "2"), refusal("cpus", "\"1-3,0\"", "nothing")]
    );
    assert_eq!(
        refused("cpus = \"1-3,0\"", "cpus = \"0-2\""),
        [refusal("cpus", "\"1-3,0\"", "\"0-2\"")]
    );
    assert_eq!(refused("\"always\"", "\"never\""), [refusal("pin", "\"always\"", "\"never\"")]);
    assert_eq!(refused("acceptors = 2", "acceptors = 3"), [refusal("acceptors", "2", "3")]);
    assert_eq!(
        refused("admin = \"127.0.0.1:15000\"", ""),
        [refusal("admin", "\"127.0.0.1:15000\"", "nothing")]
    );
    for (from, to, key) in [
        ("balance = \"least-busy\"", "balance = \"kernel\"", "balance"),
        ("log_format = \"json\"", "log_format = \"text\"", "log_format"),
        ("connections = 1000", "connections = 2000", "limits"),
    ] {
        let refusals = refused(from, to);
        assert!(
            refusals.len() == 1 && refusals[0].starts_with(&format!("`{key}` ")),
            "{refusals:?}"
        );
    }
    for (from, to) in [
        ("log = \"debug\"", "log = \"info\""),
        ("deadline = \"1m\"", "deadline = \"2m\""),
        ("idle = \"10m\"", "idle = \"11m\""),
        ("\"10.1.0.1:80\"", "\"10.1.0.3:80\""),
    ] {
        assert_eq!(refused(from, to), Vec::<String>::new(), "{to}");
    }
}

/// Damage that editors, merges and templates do to a file.
#[derive(Debug, Clone)]
enum Damage {
    Delete(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Garble(prop::sample::Index, prop::sample::Index, char),
    Cut(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Damage::Delete),
        index().prop_map(Damage::Repeat),
        (index(), index()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (index(), index(), any::<char>()).prop_map(|(line, at, c)| Damage::Garble(line, at, c)),
        (
            index(),
            index(),
            prop::sample::select(vec!['"', '[', ']', '=', '#', '\n', '{', '0', '.'])
        )
            .prop_map(|(line, at, c)| Damage::Garble(line, at, c)),
        (index(), index()).prop_map(|(line, at)| Damage::Cut(line, at)),
    ]
}

fn apply(lines: &mut Vec<String>, damage: Damage) {
    if lines.is_empty() {
        return;
    }
    let boundary =
        |line: &str, at: prop::sample::Index| line.floor_char_boundary(at.index(line.len() + 1));
    match damage {
        Damage::Delete(line) => {
            lines.remove(line.index(lines.len()));
        }
        Damage::Repeat(line) => {
            let line = line.index(lines.len());
            lines.insert(line, lines[line].clone());
        }
        Damage::Swap(a, b) => {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        Damage::Garble(line, at, c) => {
            let count = lines.len();
            let line = &mut lines[line.index(count)];
            line.insert(boundary(line, at), c);
        }
        Damage::Cut(line, at) => {
            let count = lines.len();
            let line = &mut lines[line.index(count)];
            line.truncate(boundary(line, at));
        }
    }
}

/// What must hold of any text: it is taken and reads back as the same, or it is refused with at least
/// one error, and every problem stands within the text and in its order.
fn taken_or_refused(text: &str) -> Result<(), TestCaseError> {
    let problems = match read(text, &host()) {
        Ok(Loaded { config, warnings }) => {
            let printed = config.to_toml().unwrap();
            let again = read(&printed, &host());
            prop_assert!(again.is_ok(), "{:?}\n{printed}", again.err());
            prop_assert_eq!(again.unwrap().config, config);
            lines(&warnings.to_string())
        }
        Err(problems) => {
            prop_assert!(problems.iter().any(|line| line.contains(": error: ")), "{problems:?}");
            problems
        }
    };
    let mut last = Position { line: 1, column: 1 };
    for problem in problems {
        let mut parts = problem.splitn(3, ':');
        let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
        let position = Position { line: number(), column: number() };
        prop_assert!(last <= position, "{problem}");
        last = position;
        let line = text.split('\n').nth(position.line - 1);
        let length = line.map(|line| line.chars().count());
        prop_assert!(length.is_some_and(|length| position.column <= length + 1), "{problem}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_file_is_taken_or_refused(damages in prop::collection::vec(damage(), 1..8)) {
        let mut lines: Vec<_> = EVERY_KEY.lines().map(str::to_owned).collect();
        for damage in damages {
            apply(&mut lines, damage);
        }
        taken_or_refused(&lines.join("\n"))?;
    }

    #[test]
    fn any_text_is_taken_or_refused(text in any::<String>()) {
        taken_or_refused(&text)?;
    }
}
