//! Mistakes in listeners: those that accept, and destinations.

use super::{super::host, assert_said};

/// The lines under test follow `bind`, on line 4 or later.
fn accepting(lines: &str) -> String {
    format!(
        "[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\n{lines}\n\
         [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:2']\n[[listener]]\nname = 'user'\n\
         bind = 'fd:9'\ncluster = 'c'"
    )
}

#[test]
fn in_an_accepting_listener() {
    for (lines, expected) in [
        ("", "1:1: error: without `original_dst` a listener needs a `cluster`"),
        (
            "original_dst = 'none'",
            "1:1: error: without `original_dst` a listener needs a `cluster`",
        ),
        ("cluster = 'd'", "4:11: error: `cluster`: there is no cluster \"d\"…"),
        ("cluster = 'blackhol'", "4:11: error: `cluster`: …did you mean `blackhole`?"),
        ("cluster = 'orders'", "4:11: error: `cluster`: …: add a [[cluster]] of that name"),
        ("cluster = 'passthrough'", "4:11: error: \"passthrough\" needs an original destination"),
        ("cluster = 'c'\nfallback = 'blackhole'", "5:1: error: `fallback` is for passthrough"),
        ("cluster = 'c'\nsource = '127.0.0.1'", "5:1: error: `source` is for passthrough"),
        ("cluster = 'c'\nmark = 1", "5:1: error: `mark` is for passthrough"),
        ("cluster = 'c'\nvia = 'l'", "5:1: error: `via` is for listeners with `match`"),
        ("cluster = 'c'\nmatch = '*:1'", "5:1: error: a listener has either `bind`…or `match`"),
        (
            "cluster = 'c'\nbid = 1",
            "5:1: error: unknown key `bid` in [[listener]]; did you mean `bind`?",
        ),
        (
            "cluster = 'c'\nidle = '1s'",
            "5:1: error: unknown key `idle`…belongs in [listener.timeouts]",
        ),
        (
            "cluster = 'c'\nprotocol = 'htpt'",
            "5:12: error: `protocol`: \"htpt\" is not one of…did you mean `http`?",
        ),
        ("protocol = 'http'", "1:1: error: without `original_dst` a listener needs a `cluster`"),
        ("cluster = 'c'\naccess_log = ''", "5:14: error: `access_log`: is empty"),
        ("cluster = 'c'\naccess_log = false", "5:14: error: `access_log`: expected a string"),
        (
            "cluster = 'c'\naccess_log_format = 'json'",
            "5:1: warning: `access_log_format` has no effect: there is no `access_log`",
        ),
        (
            "cluster = 'c'\naccess_log = 'off'\naccess_log_format = 'clf'",
            "6:21: error: `access_log_format`: …\"istio\", \"json\"",
        ),
        (
            "cluster = 'c'\naccess_log_sample = 0.5",
            "5:1: warning: `access_log_sample` has no effect: there is no `access_log`",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_sample = 0",
            "6:21: error: `access_log_sample`: 0 would log nothing…\"off\"",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_sample = 1.5",
            "6:21: error: `access_log_sample`: 1.5 is no share",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_sample = nan",
            "6:21: error: `access_log_sample`: NaN is no share",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_sample = '10%'",
            "6:21: error: `access_log_sample`: expected a number such as 0.1, found a string",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_only = { errors = false }",
            "6:19: error: `access_log_only` leaves nothing to log",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_only = { errors = 1 }",
            "6:30: error: `errors`: expected true or false, found a whole number",
        ),
        (
            "cluster = 'c'\naccess_log = 'stdout'\naccess_log_only = { errors = true, slower_then = '1s' }",
            "6:36: error: unknown key `slower_then` in `access_log_only`; did you mean `slower_than`?",
        ),
        ("clusters = []\ncluster = 'c'", "4:1: error: unknown key `clusters`…in [[route]]"),
        (
            "cluster = 'c'\n[listener.http]",
            "5:1: error: [listener.http] needs `protocol = \"http\"` or `\"auto\"`",
        ),
        (
            "cluster = 'c'\ntimeouts.head = '1s'",
            "5:10: error: `head` needs `protocol = \"http\"` or `\"auto\"`: set it, or leave",
        ),
        (
            "cluster = 'c'\ntimeouts.max_age = '1s'",
            "5:10: error: `max_age` needs `protocol = \"http\"`",
        ),
        (
            "cluster = 'c'\nprotocol = 'http'\ntimeouts.detect = '1s'",
            "6:10: error: `detect` needs `protocol = \"auto\"`",
        ),
        (
            "cluster = 'c'\nprotocol = 'http'\nhttp.max_head = '64k'",
            "6:17: error: `max_head`: \"64k\" is not a size…as in \"64KiB\"",
        ),
        (
            "cluster = 'c'\nprotocol = 'http'\nhttp.max_head = '9MiB'",
            "6:17: error: `max_head`: \"9MiB\" is out of range: 1KiB to 8MiB",
        ),
        (
            "cluster = 'c'\nprotocol = 'http'\nhttp.max_body = '99999999999GiB'",
            "6:17: error: `max_body`: \"99999999999GiB\" is out of range",
        ),
        (
            "cluster = 'c'\nprotocol = 'http'\nhttp.max_fields = 257",
            "6:19: error: `max_fields`: …from 1 to 256",
        ),
        ("cluster = 'c'\nprotocol = 'http'\nhttp.via = 'a b'", "6:12: error: `via`: \"a b\""),
        (
            "cluster = 'c'\nprotocol = 'http'\nhttp.forwarded = 'drop'",
            "6:18: error: `forwarded`: …\"append\", \"replace\", \"trust\"",
        ),
        (
            "cluster = 'c'\ntimeouts.handshake = '1s'",
            "5:10: error: `handshake` needs [listener.tls]",
        ),
        (
            "cluster = 'c'\ntimeouts.idle = '0s'",
            "5:17: error: `idle`: zero would close…write \"off\"",
        ),
        ("cluster = 'c'\ndirection = 'in'", "5:13: error: `direction`: \"in\" is not one of"),
        ("cluster = 'c'\nproxy_protocol = 'v1'", "5:18: error: `proxy_protocol`: …\"required\""),
        ("cluster = 'c'\nmax_connections = -1", "5:19: error: `max_connections`: expected"),
        ("original_dst = 'redirct'", "4:16: error: `original_dst`: …did you mean `redirect`?"),
        (
            "original_dst = 'redirect'\nsource = 'client'",
            "5:10: error: `source`: …on a cluster only",
        ),
        ("original_dst = 'redirect'\nsource = 'me'", "5:10: error: `source`: \"me\" is not an IP"),
        ("original_dst = 'redirect'\nsource = '0.0.0.0'", "5:10: error: `source`: …write \"off\""),
        (
            "original_dst = 'redirect'\nsource = ['127.0.0.6', '127.0.0.7']",
            "5:10: error: `source`: has two addresses of one family",
        ),
        ("original_dst = 'redirect'\nmark = 4294967296", "5:8: error: `mark`: …to 4294967295"),
        (
            "original_dst = 'redirect'\nfallback = 'passthrough'\ncluster = 'c'",
            "5:1: warning: `fallback` has no effect",
        ),
        (
            "original_dst = 'redirect'\ndirection = 'inbound'\nsource = 'off'",
            "6:10: warning: without a source address…leave `source` out",
        ),
    ] {
        assert_said(&accepting(lines), &host(), &[expected]);
    }
}

#[test]
fn in_an_address_to_bind() {
    for (bind, expected) in [
        ("15001", "`bind`: \"15001\" is not an address: write ip:port"),
        (
            "*:15001",
            "`bind`: …a pattern, not an address: write \"0.0.0.0:15001\" or \"[::]:15001\"",
        ),
        ("unix:", "`bind`: \"unix:\" has no path"),
        ("unix:@name", "`bind`: abstract"),
        ("fd:2", "`bind`: \"fd:2\" is not an inherited socket: write \"fd:3\" or higher"),
        ("fd:x", "`bind`: \"fd:x\" is not"),
    ] {
        let text = format!("[[listener]]\nname = 'l'\nbind = '{bind}'\ncluster = 'blackhole'");
        assert_said(&text, &host(), &[&format!("3:8: error: {expected}")]);
    }
    let long = "p".repeat(107);
    let text = format!("[[listener]]\nname = 'l'\nbind = 'unix:{long}'\ncluster = 'blackhole'");
    assert_said(&text, &host(), &["3:8: error: `bind`: …has 121 bytes…at most 107"]);
    assert_said(
        "[[listener]]\nname = 'l'\nbind = 'unix:/a'\noriginal_dst = 'redirect'",
        &host(),
        &["4:1: error: connections to a Unix-domain socket have no original destination"],
    );
    assert_said(
        "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\noriginal_dst = 'redirect'\n\
         direction = 'inbound'",
        &host(),
        &["3:8: warning: connections from other hosts…never to loopback: bind to \"0.0.0.0:PORT\""],
    );
}

/// The lines under test follow `match`, on line 8 or later.
fn destination(lines: &str) -> String {
    format!(
        "[[listener]]\nname = 'out'\nbind = '0.0.0.0:1'\noriginal_dst = 'redirect'\n\
         [[listener]]\nname = 'd'\nmatch = '*:80'\n{lines}\n\
         [[listener]]\nname = 'plain'\nbind = '0.0.0.0:2'\ncluster = 'blackhole'"
    )
}

#[test]
fn in_a_destination() {
    for (lines, expected) in [
        ("", "5:1: error: a listener with `match` needs a `cluster`"),
        ("cluster = 'blackhole'\nvia = 'outt'", "9:7: error: `via`: …did you mean `out`?"),
        ("cluster = 'blackhole'\nvia = 'plain'", "9:7: error: `via`: …has no `original_dst`"),
        ("cluster = 'blackhole'\nvia = 'd'", "9:7: error: `via`: …\"d\" has no `bind`"),
        ("cluster = 'blackhole'\nvia = 3", "9:7: error: `via`: expected a string"),
        ("cluster = 'blackhole'\ndirection = 'inbound'", "9:1: error: `direction` belongs to the"),
        ("cluster = 'blackhole'\noriginal_dst = 'none'", "9:1: error: `original_dst` belongs"),
        ("cluster = 'blackhole'\nproxy_protocol = 'off'", "9:1: error: `proxy_protocol` belongs"),
        ("cluster = 'blackhole'\nmark = 1", "9:1: warning: `mark` has no effect here"),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'e'\nmatch = '*:80'\ncluster = 'blackhole'",
            "11:9: error: \"*:80\" is taken on line 7",
        ),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'e'\nmatch = '[::1]:80'\ncluster = 'blackhole'",
            "11:9: warning: `match`: never fits: \"out\" accepts IPv4 alone",
        ),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'e'\nmatch = 'web:80'\ncluster = 'blackhole'",
            "11:9: error: `match`: \"web:80\" is not an address",
        ),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'e'\nmatch = '*:0'\ncluster = 'blackhole'",
            "11:9: error: `match`: port 0",
        ),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'e'\nmatch = '*:*'\ncluster = 'blackhole'",
            "11:9: error: `match`: \"*\" is not a port",
        ),
        (
            "cluster = 'blackhole'\nvia = 'out'\n[[listener]]\nname = 'e'\ncluster = 'blackhole'",
            "10:1: error: a listener needs `bind`…or `match`",
        ),
        (
            "cluster = 'blackhole'\n[[listener]]\nname = 'in'\nbind = '0.0.0.0:3'\n\
             original_dst = 'redirect'",
            "7:1: error: `via` is needed, as several listeners have `original_dst`: \"out\", \"in\"",
        ),
    ] {
        assert_said(&destination(lines), &host(), &[expected]);
    }
    assert_said(
        "[[listener]]\nname = 'd'\nmatch = '*:80'\ncluster = 'blackhole'",
        &host(),
        &["3:1: error: nothing feeds `match`: a listener with `bind` and `original_dst` is needed"],
    );
}

#[test]
fn an_inbound_listener_forwards_to_this_host() {
    let text = |endpoint: &str| {
        format!(
            "[[listener]]\nname = 'l'\nbind = '0.0.0.0:1'\ndirection = 'inbound'\ncluster = 'c'\n\
             [[cluster]]\nname = 'c'\nendpoints = ['{endpoint}']"
        )
    };
    assert_said(&text("10.0.0.1:2"), &host(), &[]);
    assert_said(
        &text("10.0.0.2:2"),
        &host(),
        &["5:11: warning: an inbound listener forwards to this host alone, and 10.0.0.2"],
    );
    let routed = text("10.0.0.2:2")
        .replace("cluster = 'c'", "protocol = 'http'\n[[route]]\nlistener = 'l'\ncluster = 'c'");
    assert_said(&routed, &host(), &["8:11: warning: an inbound listener…and 10.0.0.2"]);
}
