//! Mistakes, and what is said about them: the place, and the words that matter, remedy included.

mod http;
mod listeners;
mod tls;

use super::{host, lines, read, unprivileged};
use crate::config::Loaded;

/// What is said about a text, errors and warnings.
fn said(text: &str, host: &super::Host) -> Vec<String> {
    match read(text, host) {
        Ok(Loaded { warnings, .. }) => lines(&warnings.to_string()),
        Err(problems) => problems,
    }
}

/// Exactly these problems, in this order; each given as its beginning and words that follow, joined
/// by `…`.
fn assert_said(text: &str, host: &super::Host, expected: &[&str]) {
    let said = said(text, host);
    let fits = |line: &String, expected: &&str| {
        let mut rest = line.as_str();
        let mut parts = expected.split('…');
        rest.starts_with(parts.next().unwrap_or_default())
            && expected.split('…').all(|part| match rest.find(part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
    };
    let all_fit =
        said.len() == expected.len() && said.iter().zip(expected).all(|(s, e)| fits(s, e));
    assert!(all_fit, "of\n{text}\nis said {said:#?}\nnot {expected:#?}");
}

/// A text that has nothing wrong but the lines under test, which come first.
fn with_listener(lines: &str) -> String {
    format!("{lines}\n[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\ncluster = 'blackhole'\n")
}

#[test]
fn at_the_top_level() {
    for (line, expected) in [
        ("shards = -1", "1:10: error: `shards`: …from 0 to 1024, found -1"),
        ("shards = 5000", "1:10: error: `shards`: …found 5000"),
        ("shards = '2'", "1:10: error: `shards`: expected a whole number…found a string"),
        ("shards = 99999999999999999999", "1:10: error: `shards`: expected a whole number"),
        ("shards = 8", "1:10: warning: 8 shards share the 4 CPUs"),
        (
            "cpus = 3",
            "1:8: error: `cpus`: expected a string such as \"0-3,8\", found a whole number",
        ),
        ("cpus = ''", "1:8: error: `cpus`: \"\" is not a CPU"),
        ("cpus = '3-1'", "1:8: error: `cpus`: \"3-1\" runs backwards: write \"1-3\""),
        ("cpus = '0-2,1'", "1:8: error: `cpus`: CPU 1 is listed twice"),
        ("cpus = '0-99999999999'", "1:8: error: `cpus`: \"0-99999999999\" is not…0 to 1023"),
        ("cpus = '0,7'", "1:8: warning: this process may not use CPU 7"),
        ("pin = 'allways'", "1:7: error: `pin`: \"allways\" is not one of…did you mean `always`?"),
        ("acceptors = 0", "1:13: error: `acceptors`: expected a whole number from 1 to 64"),
        ("balance = 'exact'", "1:11: error: `balance`: …\"round-robin\", \"kernel\""),
        (
            "admin = '127.0.0.1'",
            "1:9: error: `admin`: \"127.0.0.1\" has no port: …\"127.0.0.1:8080\"",
        ),
        ("admin = ':15000'", "1:9: error: `admin`: …write it, as in \"127.0.0.1:15000\""),
        ("admin = '::1:15000'", "1:9: error: `admin`: …write \"[::1]:15000\""),
        ("admin = '::1:99999'", "1:9: error: `admin`: an IPv6 address stands in brackets"),
        ("admin = '[::1]:99999'", "1:9: error: `admin`: \"99999\" is not a port"),
        ("admin = 'localhost:15000'", "1:9: error: `admin`: \"localhost:15000\" is not an address"),
        ("admin = '0.0.0.0:15000'", "1:9: warning: whoever reaches `admin` can stop…127.0.0.1"),
        ("log = 'a=b'", "1:7: error: `log`: \"a=b\" is not a filter"),
        ("log = 'inof'", "1:7: error: `log`: \"inof\" is no level: …did you mean `info`?"),
        ("log = 'info,h2'", "1:7: error: `log`: \"h2\" is no level: …\"evenkeel=debug\""),
        ("log_format = 'yaml'", "1:14: error: `log_format`: …\"text\", \"json\""),
        ("driver = 'uring'", "1:10: error: `driver`: …\"auto\", \"io_uring\", \"epoll\""),
        (
            "lisener = 1",
            "1:1: error: unknown key `lisener` at the top level; did you mean `listener`?",
        ),
        ("deadline = '1s'", "1:1: error: unknown key `deadline`…; it belongs in [drain]"),
        (
            "frobnicate = 1",
            "1:1: error: unknown key `frobnicate` at the top level; known here: `shards`",
        ),
        (
            "limits = 3",
            "1:10: error: `limits` is one section: write `[limits]` (found a whole number)",
        ),
        ("route = 1", "1:9: error: each `route` is a section: write `[[route]]`"),
        (
            "[limits]\nshards = 1",
            "2:1: error: unknown key `shards` in [limits]; it belongs at the top, before the first",
        ),
        ("limits.connections = 5000000000", "1:22: error: `connections`: …4294967295"),
        ("drain.deadline = 'off'", "1:18: error: `deadline`: cannot be off: …\"8760h\""),
        ("drain.deadline = 30", "1:18: error: `deadline`: …such as \"5s\", found a whole number"),
        ("drain.deadline = '30'", "1:18: error: `deadline`: \"30\" is not a duration"),
        ("drain.deadline = '1.5s'", "1:18: error: `deadline`: \"1.5s\" is not a duration"),
        (
            "drain.deadline = '1d'",
            "1:18: error: `deadline`: \"1d\" is not a duration: …ms, s, m or h",
        ),
        ("drain.deadline = ''", "1:18: error: `deadline`: \"\" is not a duration"),
        ("drain.deadline = '9000h'", "1:18: error: `deadline`: \"9000h\" is too long"),
        ("drain.deadline = '99999999999999999999h'", "1:18: error: `deadline`: …is too long"),
        ("cluster = [3]", "1:12: error: each `cluster` is a section: write `[[cluster]]`"),
    ] {
        assert_said(&with_listener(line), &host(), &[expected]);
    }
    assert_said(
        &with_listener("shards = 2\ncpus = '0-1'"),
        &host(),
        &["1:1: error: `cpus` gives one shard to each…leave out either it or `shards`"],
    );
    assert_said(
        &with_listener("acceptors = 2\nbalance = 'kernel'"),
        &host(),
        &["1:1: warning: `acceptors` has no effect"],
    );
    // The commonest slip with arrays of tables.
    assert_said(
        "[listener]\nname = 'l'",
        &host(),
        &["1:1: error: each `listener` is a section: write `[[listener]]` (found a table)"],
    );
}

/// The lines under test are the cluster, from line 5.
fn cluster(lines: &str) -> String {
    format!("[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\ncluster = 'c'\n[[cluster]]\n{lines}")
}

#[test]
fn in_a_cluster() {
    let good = "name = 'c'\nendpoints = ['10.0.0.2:2']\n";
    for (lines, expected) in [
        ("name = 'c'", "5:1: error: a cluster needs `endpoints`"),
        ("name = 'c'\nendpoints = []", "7:13: error: a cluster needs at least one endpoint"),
        ("name = 'c'\nendpoints = '10.0.0.2:2'", "7:13: error: `endpoints`: expected an array"),
        ("name = 'c'\nendpoints = [1]", "7:14: error: `endpoints`: expected a string"),
        ("name = 'c'\nendpoints = ['10.0.0.2']", "7:14: error: `endpoints`: …has no port"),
        ("name = 'c'\nendpoints = ['10.0.0.2:0']", "7:14: error: `endpoints`: port 0"),
        ("name = 'c'\nendpoints = ['0.0.0.0:2']", "7:14: error: `endpoints`: 0.0.0.0 cannot be"),
        ("name = 'c'\nendpoints = ['b-.example:2']", "7:14: error: `endpoints`: …parts of a name"),
        ("name = 'c'\nendpoints = [{}]", "7:14: error: an endpoint has no `address`"),
        (
            "name = 'c'\nendpoints = [{ address = '10.0.0.2:2', weight = 0 }]",
            "7:49: error: `weight`: expected a whole number from 1 to 1000000",
        ),
        (
            "name = 'c'\nendpoints = ['10.0.0.2:2', '10.0.0.2:2']",
            "7:28: warning: endpoint \"10.0.0.2:2\" is listed twice: remove one",
        ),
        (
            "name = 'c'\nendpoints = ['127.0.0.1:1']",
            "7:14: error: a loop: …listener \"l\"…on line 3",
        ),
        ("name = 'c'\nendpoints = ['10.0.0.1:1']", "7:14: error: a loop"),
        ("name = 'c'\nendpoints = ['[::ffff:10.0.0.1]:1']", "7:14: error: a loop: \"10.0.0.1:1\""),
        (
            "name = 'c'\nendpoints = ['10.0.0.2:2']\n[[cluster]]\nname = 'c'\n\
             endpoints = ['10.0.0.2:2']",
            "9:8: error: the cluster name \"c\" is taken on line 6",
        ),
        (
            "name = 'c'\nendpoints = ['10.0.0.2:2']\n[[cluster]]\nname = 'd'\n\
             endpoints = ['10.0.0.2:2']",
            "9:8: warning: no listener or route forwards to cluster \"d\"",
        ),
        (
            "name = 'c'\nendpoints = ['10.0.0.2:2']\n[[cluster]]\nname = 'blackhole'\n\
             endpoints = ['10.0.0.2:2']",
            "9:8: error: `name`: \"blackhole\" is reserved",
        ),
        (
            "name = 'c'\nendpoints = ['10.0.0.2:2']\n[[cluster]]\nname = 'a b'\n\
             endpoints = ['10.0.0.2:2']",
            "9:8: error: `name`: …not ' '",
        ),
        (
            &format!("{good}policy = 'random'"),
            "8:1: warning: `policy` has no effect: it is for HTTP",
        ),
        (&format!("{good}policy = 'rnadom'"), "8:10: error: `policy`: …did you mean `random`?"),
        (&format!("{good}policy = 3"), "8:10: error: `policy`: expected a policy such as"),
        (&format!("{good}policy = {{}}"), "8:10: error: `policy`: write { hash = "),
        (&format!("{good}policy.hash = 'a b'"), "8:15: error: `hash`: \"a b\" is not the name of"),
        (&format!("{good}limits.retries = 1"), "8:1: warning: `limits` has no effect"),
        (&format!("{good}[cluster.retry]"), "8:10: warning: `retry` has no effect"),
        (&format!("{good}[cluster.outlier]"), "8:10: warning: `outlier` has no effect"),
        (&format!("{good}timeouts.connect = '0s'"), "8:20: error: `connect`: has to be longer"),
        (&format!("{good}timeouts.connect = 'off'"), "8:20: error: `connect`: cannot be off"),
        (&format!("{good}source = 'clinet'"), "8:10: error: `source`: …did you mean `client`?"),
        (&format!("{good}proxy_protocol = 'v3'"), "8:18: error: `proxy_protocol`: …\"v1\", \"v2\""),
        (&format!("{good}endpoint = 1"), "8:1: error: unknown key `endpoint`…mean `endpoints`?"),
    ] {
        assert_said(&cluster(lines), &host(), &[expected]);
    }
    // A port of another host is none of ours, even if it is the same.
    assert_said(&cluster("name = 'c'\nendpoints = ['10.0.0.2:1']"), &host(), &[]);
}

#[test]
fn places_are_had_once() {
    let text = |first: &str, second: &str| {
        format!(
            "[[listener]]\nname = 'a'\nbind = '{first}'\ncluster = 'blackhole'\n\
             [[listener]]\nname = 'b'\nbind = '{second}'\ncluster = 'blackhole'"
        )
    };
    for (first, second, expected) in [
        ("127.0.0.1:1", "127.0.0.1:1", "\"127.0.0.1:1\" is taken on line 3"),
        ("127.0.0.1:1", "0.0.0.0:1", "\"0.0.0.0:1\" overlaps with \"127.0.0.1:1\" on line 3"),
        ("[::]:1", "[::1]:1", "\"[::1]:1\" overlaps with"),
        ("0.0.0.0:1", "[::]:1", "\"[::]:1\" overlaps with…([::] is for IPv4 as well)"),
        ("unix:x", "unix:/etc/evenkeel/x", "\"unix:/etc/evenkeel/x\" is taken"),
        ("fd:3", "fd:3", "\"fd:3\" is taken"),
    ] {
        assert_said(&text(first, second), &host(), &[&format!("7:8: error: {expected}")]);
    }
    for (first, second) in [
        ("127.0.0.1:1", "127.0.0.2:1"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:1", "[::1]:1"),
        ("127.0.0.1:1", "127.0.0.1:2"),
    ] {
        assert_said(&text(first, second), &host(), &[]);
    }
    assert_said(
        &with_listener("admin = '127.0.0.1:1'\ntelemetry = '127.0.0.1:1'"),
        &host(),
        &["2:13: error: \"127.0.0.1:1\" is taken on line 1", "5:8: error: …taken on line 1"],
    );
    assert_said(
        &format!(
            "{}\n[[listener]]\nname = 'l'\nbind = 'fd:3'\ncluster = 'blackhole'",
            with_listener("")
        ),
        &host(),
        &["8:8: error: the listener name \"l\" is taken on line 3"],
    );
    assert_said(
        "[[listener]]\nbind = 'fd:3'\ncluster = 'blackhole'",
        &host(),
        &["1:1: error: a listener needs a `name`"],
    );
}

#[test]
fn what_needs_a_privilege_is_said_to_those_without_it() {
    let text = "[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\noriginal_dst = 'tproxy'\nmark = 1\n\
                cluster = 'c'\n[[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']\n\
                source = 'client'\nmark = 2";
    assert_said(text, &host(), &[]);
    assert_said(
        text,
        &unprivileged(),
        &[
            "4:16: warning: \"tproxy\" needs CAP_NET_ADMIN",
            "5:1: warning: `mark` needs CAP_NET_ADMIN",
            "10:10: warning: source \"client\" needs CAP_NET_ADMIN",
            "11:1: warning: `mark` needs CAP_NET_ADMIN",
        ],
    );
}

#[test]
fn everything_is_said_at_once() {
    assert_said(
        "shards = 'x'\npinn = 'auto'\n[[listener]]\nname = 'l'\nbind = '1'\ncluster = 'a'\n\
         [[cluster]]\nname = 'b'\nendpoints = ['x', 'y', '127.0.0.1:1']\n",
        &host(),
        &[
            "1:10: error: `shards`",
            "2:1: error: unknown key `pinn`",
            "5:8: error: `bind`",
            "6:11: error: `cluster`: there is no cluster \"a\"",
            "8:8: warning: no listener or route forwards to cluster \"b\"",
            "9:14: error: `endpoints`",
            "9:19: error: `endpoints`",
        ],
    );
}

#[test]
fn broken_syntax_is_said_with_all_that_still_can_be_read() {
    assert_said(
        "shards = \npin = 'x'\nlog = \"info\nacceptors = 1\nacceptors = 0\nfoo bar\n",
        &host(),
        &[
            "1:10: error: string values must be quoted",
            "2:7: error: `pin`: \"x\" is not one of",
            "3:12: error: invalid basic string",
            "5:1: error: `acceptors` is written twice: remove one",
            "6:5: error: key with no value",
        ],
    );
    // Columns count characters.
    assert_said("log = 'ä' x", &host(), &["1:11: error: "]);
    assert_said("[[listener]\nname = 'l'", &host(), &["1:12: error: unclosed array table"]);
}
