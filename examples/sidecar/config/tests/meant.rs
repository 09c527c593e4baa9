//! What values come to, where that takes more than reading them.

use super::{config, host, read};
use crate::config::{
    Host, load,
    schema::{Routing, Target},
};

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
