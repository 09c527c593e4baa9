//! Mistakes in routes, and in clusters of HTTP.

use super::{super::host, assert_said, said};

/// The lines under test are a route of `web`, from line 9; `c` is a cluster of http.
fn route(lines: &str) -> String {
    format!(
        "[[listener]]\nname = 'web'\nbind = '0.0.0.0:1'\nprotocol = 'http'\ncluster = 'c'\n\
         [[listener]]\nname = 'tcp'\nbind = '0.0.0.0:2'\ncluster = 'blackhole'\n\
         [[cluster]]\nname = 'c'\nendpoints = ['10.0.0.2:2']\n[[route]]\n{lines}"
    )
}

#[test]
fn in_a_route() {
    for (lines, expected) in [
        ("cluster = 'c'", "13:1: error: a route needs a `listener`"),
        ("listener = 'wbe'\ncluster = 'c'", "14:12: error: `listener`: …did you mean `web`?"),
        (
            "listener = 'tcp'\ncluster = 'c'",
            "14:12: error: `listener`: listener \"tcp\", on line 6, relays bytes…\"http\"` there",
        ),
        ("listener = 'web'", "13:1: error: a route needs a `cluster`, `clusters`"),
        (
            "listener = 'web'\ncluster = 'c'\nrespond = { status = 200 }",
            "16:1: error: a route has either `cluster` or `respond`",
        ),
        ("listener = 'web'\ncluster = 'd'", "15:11: error: there is no cluster \"d\""),
        ("listener = 'web'\ncluster = 'passthrough'", "15:11: error: \"passthrough\" is where"),
        ("listener = 'web'\ncluster = 'blackhole'", "15:11: error: \"blackhole\"…status = 502"),
        (
            "listener = 'web'\nclusters = [{ name = 'cc', weight = 1 }]",
            "15:22: error: there is no cluster \"cc\"",
        ),
        (
            "listener = 'web'\nclusters = [{ name = 'c', weight = 0 }]",
            "15:12: error: `clusters`: none has a weight above 0",
        ),
        ("listener = 'web'\nclusters = ['c']", "15:13: error: `clusters`: expected tables"),
        (
            "listener = 'web'\ncluster = 'c'\nhosts = ['a.example', 'a.*']",
            "16:23: error: host \"a.*\": `*` stands alone or in front",
        ),
        ("listener = 'web'\ncluster = 'c'\nhosts = 'a'", "16:9: error: `hosts`: expected an array"),
        (
            "listener = 'web'\ncluster = 'c'\npath = 'v1'",
            "16:8: error: path \"v1\": a path begins with /",
        ),
        (
            "listener = 'web'\ncluster = 'c'\npath = '/a'\npath_prefix = '/b'",
            "17:1: error: it is either `path` or `path_prefix`",
        ),
        ("listener = 'web'\ncluster = 'c'\nmethod = 'get'", "16:10: error: `method`: …\"GET\""),
        (
            "listener = 'web'\ncluster = 'c'\nheaders = { 'a b' = '1' }",
            "16:21: error: `headers`: \"a b\" is not the name",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nheaders = { A = '1', a = '2' }",
            "error: `…` is written twice in `headers`",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nrequest_headers.set = { host = 'a' }",
            "16:1: error: header host cannot be changed: rewrite the host instead",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nresponse_headers.remove = ['te']",
            "16:1: error: header te cannot be changed",
        ),
        (
            "listener = 'web'\nrespond = { status = 204, body = 'x' }",
            "15:11: error: an answer with 204…has no body",
        ),
        ("listener = 'web'\nrespond = { status = 99 }", "15:22: error: `status`: …from 200 to 599"),
        ("listener = 'web'\nrespond = {}", "15:11: error: `respond` needs a `status`"),
        (
            "listener = 'web'\nredirect = { status = 304 }",
            "15:23: error: `status`: 304 is none of 301",
        ),
        (
            "listener = 'web'\ncluster = 'c'\npath = '/a'\nrewrite = { path_prefix = '/b' }",
            "17:11: error: a prefix is replaced, but the route matches an exact path",
        ),
        (
            "listener = 'web'\nredirect = {}\nretry = { attempts = 1 }",
            "16:9: error: the route forwards nothing",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nretry = { statuses = [200] }",
            "16:23: error: `statuses`: an answer with 200 is no failure",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nretry = { on = ['rest'] }",
            "16:17: error: `on`: …did you mean `reset`?",
        ),
        (
            "listener = 'web'\ncluster = 'c'\ntimeout = '1s'\ntry_timeout = '2s'",
            "17:15: error: one try may take longer",
        ),
        (
            "listener = 'web'\ncluster = 'c'\nhosts = ['A.example']\n\
             [[route]]\nlistener = 'web'\nhosts = ['a.example.']\nrespond = { status = 200 }",
            "17:1: warning: never taken: the route on line 13 matches the same",
        ),
    ] {
        if let Some(expected) = expected.strip_prefix("error: ") {
            // Which of the two comes first, is for the table to say.
            let said = said(&route(lines), &host());
            assert_eq!(said.len(), 1, "{said:?}");
            let words: Vec<_> = expected.split('…').collect();
            assert!(words.iter().all(|word| said[0].contains(word)), "{said:?}");
            continue;
        }
        assert_said(&route(lines), &host(), &[expected]);
    }
}

#[test]
fn in_what_http_listeners_may_say() {
    for (lines, expected) in [
        (
            "protocol = 'http'\nhttp.connect = 'yes'",
            "4:16: error: `connect`: expected true or false",
        ),
        (
            "protocol = 'auto'\nhttp.connect = true",
            "4:6: error: `connect` needs `protocol = \"http\"`",
        ),
        ("http.connect = true", "3:1: error: [listener.http] needs"),
    ] {
        let text = format!(
            "[[listener]]\nname = 'l'\n{lines}\nbind = '0.0.0.0:1'\ncluster = 'c'\n\
             [[cluster]]\nname = 'c'\nendpoints = ['10.0.0.2:2']\n"
        );
        assert_said(&text, &host(), &[expected]);
    }
}

#[test]
fn in_a_cluster_of_http() {
    let cluster = |lines: &str| {
        format!(
            "[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\nprotocol = 'http'\ncluster = 'c'\n\
             [[cluster]]\nname = 'c'\n{lines}"
        )
    };
    for lines in [
        "endpoints = ['b.example:2']",
        "endpoints = ['10.0.0.2:2']\npolicy = 'random'\nlimits.requests = 1\nretry = {}",
        "endpoints = ['b.example:2']\n[[listener]]\nname = 't'\nbind = 'fd:3'\nprotocol = 'auto'\n\
         cluster = 'c'",
    ] {
        assert_said(&cluster(lines), &host(), &[]);
    }
    for (lines, expected) in [
        (
            "endpoints = ['10.0.0.2:2', '10.0.0.2:2']",
            "8:28: error: endpoint \"10.0.0.2:2\" is listed twice: give it a `weight`",
        ),
        (
            "endpoints = ['10.0.0.2:2']\nhealth.interval = '1ms'",
            "9:19: error: `interval`: has to be at least 10ms",
        ),
        (
            "endpoints = ['10.0.0.2:2']\nhealth.path = 'x'",
            "9:15: error: `path`: \"x\" is not a path",
        ),
        ("endpoints = ['10.0.0.2:2']\nhealth.host = 'x'", "9:8: error: `host` is for a request"),
        (
            "endpoints = ['10.0.0.2:2']\noutlier.consecutive_failures = 0",
            "9:32: error: `consecutive_failures`: expected a whole number from 1",
        ),
        (
            "endpoints = ['10.0.0.2:2']\nproxy_protocol = 'v1'",
            "9:1: error: `proxy_protocol` names one client for a connection",
        ),
    ] {
        assert_said(&cluster(lines), &host(), &[expected]);
    }
}
