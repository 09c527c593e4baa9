use std::collections::BTreeMap;

use ::http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::http::route::{Clusters, Match, PathPolicy, PathRule, RequestPath, normalize};

/// A route with the given match; its name is what it is told apart by.
fn route(name: &str, matches: Match) -> RouteSpec {
    RouteSpec { matches, route: Route::new(name, Action::Forward(Clusters::one("cluster"))) }
}

/// Words: hosts contain a dot or a star, methods are in capitals, fields are `name=value`, a path
/// that ends in `*` is a prefix.
fn rule(text: &str) -> Match {
    let mut matches = Match::default();
    for word in text.split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            matches.headers.push((name.parse().unwrap(), value.parse().unwrap()));
        } else if word.starts_with('/') {
            matches.path = match word.strip_suffix('*') {
                Some(prefix) => PathRule::Prefix(prefix.to_owned()),
                None => PathRule::Exact(word.to_owned()),
            };
        } else if word.bytes().all(|byte| byte.is_ascii_uppercase()) {
            matches.method = Some(word.parse().unwrap());
        } else {
            matches.hosts.push(word.to_owned());
        }
    }
    matches
}

/// A table of routes that are named by their own rules.
fn table(rules: &[&str]) -> RouteTable {
    RouteTable::build(rules.iter().map(|text| route(text, rule(text))).collect()).unwrap()
}

/// What is found for a request `METHOD authority path name=value…`; a dash is an empty authority.
fn found<'t>(table: &'t RouteTable, request: &str) -> Option<&'t str> {
    let mut words = request.split_whitespace();
    let method: Method = words.next().unwrap().parse().unwrap();
    let authority = words.next().map_or("", |word| if word == "-" { "" } else { word });
    let path = words.next().unwrap_or_default();
    let fields: HeaderMap = words
        .map(|word| word.split_once('=').unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    let path = normalize(path, PathPolicy::Refuse).unwrap();
    let header = |name: &str| fields.get(name).map(HeaderValue::as_bytes);
    table.lookup(&method, authority, &path, header).map(|route| route.name.as_str())
}

/// Checks requests against the rules that they are to find; in whatever order the rules are given,
/// since they differ.
#[track_caller]
fn check(rules: &[&str], requests: &[(&str, Option<&str>)]) {
    let backwards: Vec<_> = rules.iter().rev().copied().collect();
    for rules in [rules, &backwards] {
        let table = table(rules);
        for (request, expected) in requests {
            assert_eq!(found(&table, request), *expected, "{request} among {rules:?}");
        }
    }
}

#[test]
fn an_exact_host_comes_before_the_longest_suffix_before_any() {
    check(
        &["a.b.example", "*.b.example", "*.example", "*"],
        &[
            ("GET a.b.example /", Some("a.b.example")),
            ("GET c.b.example /", Some("*.b.example")),
            ("GET d.c.b.example /", Some("*.b.example")),
            ("GET x.a.b.example /", Some("*.b.example")),
            ("GET b.example /", Some("*.example")),
            ("GET example /", Some("*")),
            ("GET .example /", Some("*")),
            ("GET - /", Some("*")),
            ("GET 127.0.0.1 /", Some("*")),
        ],
    );
}

#[test]
fn a_host_is_compared_without_case_port_and_a_dot_at_the_end() {
    check(
        &["A.Example", "*.B.example.", "[2001:DB8::1]"],
        &[
            ("GET a.example /", Some("A.Example")),
            ("GET A.EXAMPLE:80 /", Some("A.Example")),
            ("GET a.example. /", Some("A.Example")),
            ("GET a.example.:8080 /", Some("A.Example")),
            ("GET a.example: /", Some("A.Example")),
            ("GET X.b.Example.:1 /", Some("*.B.example.")),
            ("GET [2001:db8::1] /", Some("[2001:DB8::1]")),
            ("GET [2001:db8::1]:443 /", Some("[2001:DB8::1]")),
            ("GET a.example.. /", None),
            ("GET xa.example /", None),
            ("GET b.example /", None),
            ("GET .b.example /", None),
        ],
    );
}

#[test]
fn a_port_counts_where_a_pattern_names_one() {
    check(
        &["a.example", "a.example:81", "*.example:81", "*:82", "*"],
        &[
            ("GET a.example:81 /", Some("a.example:81")),
            ("GET a.example:82 /", Some("a.example")),
            ("GET a.example /", Some("a.example")),
            ("GET b.example:81 /", Some("*.example:81")),
            ("GET b.example:82 /", Some("*:82")),
            ("GET b.example:83 /", Some("*")),
            ("GET b.example /", Some("*")),
        ],
    );
    check(
        &["a.example:80"],
        &[("GET a.example /", None), ("GET a.example:80 /", Some("a.example:80"))],
    );
}

#[test]
fn a_name_that_is_too_long_is_for_all_hosts_only() {
    let table = table(&["*", "*.example"]);
    let label = "a".repeat(50);
    let fits = [&*label, &label, &label, &label, &"a".repeat(43), "example"].join(".");
    assert_eq!(fits.len(), 255);
    assert_eq!(found(&table, &format!("GET {fits} /")), Some("*.example"));
    assert_eq!(found(&table, &format!("GET {}.:80 /", fits.to_uppercase())), Some("*.example"));
    assert_eq!(found(&table, &format!("GET a{fits} /")), Some("*"));
    assert_eq!(found(&table, &format!("GET A{fits} /")), Some("*"));
}

#[test]
fn an_exact_path_comes_before_the_longest_prefix() {
    check(
        &["/v1/x", "/v1/x*", "/v1*", "/*"],
        &[
            ("GET a.example /v1/x", Some("/v1/x")),
            ("GET a.example /v1/x/", Some("/v1/x*")),
            ("GET a.example /v1/x/y", Some("/v1/x*")),
            ("GET a.example /v1/xy", Some("/v1*")),
            ("GET a.example /v1", Some("/v1*")),
            ("GET a.example /v1/", Some("/v1*")),
            ("GET a.example /v1x", Some("/*")),
            ("GET a.example /v", Some("/*")),
            ("GET a.example /V1", Some("/*")),
            ("GET a.example /", Some("/*")),
            ("OPTIONS a.example *", Some("/*")),
            ("GET a.example", Some("/*")),
        ],
    );
}

#[test]
fn a_slash_at_the_end_counts_in_exact_paths_only() {
    check(
        &["/a/*", "/b", "/c/", "/"],
        &[
            ("GET - /a", Some("/a/*")),
            ("GET - /a/", Some("/a/*")),
            ("GET - /a/b", Some("/a/*")),
            ("GET - /ab", None),
            ("GET - /b", Some("/b")),
            ("GET - /b/", None),
            ("GET - /c/", Some("/c/")),
            ("GET - /c", None),
            ("GET - /", Some("/")),
            ("GET -", Some("/")),
            ("OPTIONS - *", None),
        ],
    );
    let same_prefix = table(&["/a*", "/a/*"]);
    assert_eq!(found(&same_prefix, "GET - /a/b"), Some("/a*"), "the first of two that are one");
}

#[test]
fn paths_are_matched_in_one_spelling() {
    check(
        &["/admin*", "/caf%c3%a9", "/tee/ö", "/a%2Fb"],
        &[
            ("GET - //admin", Some("/admin*")),
            ("GET - /%61dmin/x", Some("/admin*")),
            ("GET - /%2fadmin%2fx", Some("/admin*")),
            ("GET - /caf%C3%a9", Some("/caf%c3%a9")),
            ("GET - /tee/%c3%b6", Some("/tee/ö")),
            ("GET - /a/b", Some("/a%2Fb")),
        ],
    );
}

#[test]
fn a_method_comes_before_header_fields() {
    check(
        &["/* GET", "/* a=1 b=2", "/* a=1", "/*"],
        &[
            ("GET - /", Some("/* GET")),
            ("GET - / a=1 b=2", Some("/* GET")),
            ("POST - / a=1 b=2", Some("/* a=1 b=2")),
            ("POST - / a=1 b=3", Some("/* a=1")),
            ("POST - / a=2", Some("/*")),
            ("HEAD - /", Some("/*")),
        ],
    );
}

#[test]
fn of_two_with_a_method_the_one_with_more_header_fields_comes_first() {
    check(
        &["/* GET a=1", "/* GET", "/* POST", "/* a=1"],
        &[
            ("GET - / a=1", Some("/* GET a=1")),
            ("GET - / a=2", Some("/* GET")),
            ("POST - / a=1", Some("/* POST")),
            ("PUT - / a=1", Some("/* a=1")),
            ("PUT - /", None),
        ],
    );
}

#[test]
fn the_host_decides_before_the_path_and_the_path_before_the_rest() {
    check(
        &["a.example /*", "*.example /v1", "/v1 GET a=1", "a.example /v1* GET a=1"],
        &[
            ("GET a.example /v1 a=1", Some("a.example /v1* GET a=1")),
            ("GET a.example /v1", Some("a.example /*")),
            ("GET b.example /v1 a=1", Some("*.example /v1")),
            ("GET b.test /v1 a=1", Some("/v1 GET a=1")),
        ],
    );
    check(
        &["/v1", "/v1* GET a=1 b=2", "/v* GET a=1"],
        &[
            ("GET - /v1 a=1 b=2", Some("/v1")),
            ("GET - /v1/x a=1 b=2", Some("/v1* GET a=1 b=2")),
            ("GET - /v1/x a=1", None),
        ],
    );
}

#[test]
fn what_fails_on_any_point_is_passed_over() {
    check(
        &["a.example /v1/x POST", "a.example /v1* c=1", "*.example /v1*", "* GET"],
        &[
            ("POST a.example /v1/x", Some("a.example /v1/x POST")),
            ("GET a.example /v1/x c=1", Some("a.example /v1* c=1")),
            ("GET a.example /v1/x", Some("*.example /v1*")),
            ("GET a.example /v2", Some("* GET")),
            ("POST a.example /v2", None),
        ],
    );
}

#[test]
fn the_order_decides_in_the_end() {
    let rules = ["/* a=1", "/* b=1", "/* a=1"];
    let specs = |rules: &[&str]| {
        rules.iter().enumerate().map(|(at, text)| route(&at.to_string(), rule(text))).collect()
    };
    let table = RouteTable::build(specs(&rules)).unwrap();
    assert_eq!(found(&table, "GET - / a=1 b=1"), Some("0"));
    assert_eq!(found(&table, "GET - / b=1"), Some("1"));
    assert_eq!(table.len(), 3);
}

#[test]
fn one_route_may_have_several_hosts() {
    check(
        &["a.example *.b.example /v1*", "*"],
        &[
            ("GET a.example /v1", Some("a.example *.b.example /v1*")),
            ("GET x.b.example /v1", Some("a.example *.b.example /v1*")),
            ("GET b.example /v1", Some("*")),
        ],
    );
}

#[test]
fn header_values_are_compared_byte_by_byte() {
    let table = table(&["x-canary=One"]);
    assert_eq!(found(&table, "GET - / X-Canary=One"), Some("x-canary=One"));
    assert_eq!(found(&table, "GET - / x-canary=one"), None);
    assert_eq!(found(&table, "GET - / x-canary=One,Two"), None);
}

#[test]
fn an_empty_table_has_no_route() {
    let table = RouteTable::default();
    assert!(table.is_empty());
    assert_eq!(found(&table, "GET a.example /"), None);
}

#[test]
fn clusters_are_numbered_over_all_routes() {
    let to = |clusters: &[(&'static str, u32)]| RouteSpec {
        matches: Match::default(),
        route: Route::new("", Action::Forward(Clusters::weighted(clusters.to_vec()).unwrap())),
    };
    let routes = vec![to(&[("a", 1), ("b", 0)]), to(&[("c", 1)]), to(&[("b", 1), ("a", 1)])];
    let table = RouteTable::build(routes).unwrap();
    assert_eq!(table.clusters().iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
    for entry in &table.entries {
        let Action::Forward(clusters) = &entry.route.action else { panic!() };
        for cluster in clusters.iter() {
            assert_eq!(&table.clusters()[cluster.index()], cluster.name());
        }
    }
}

#[test]
fn a_table_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<RouteTable>();
}

/// The rules of precedence, written down once more: all that match, the first by the definition.
fn by_definition(specs: &[RouteSpec], request: &Sample) -> Option<usize> {
    let (host, port) = match request.authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (request.authority.as_str(), None),
    };
    let mut best: BTreeMap<_, usize> = BTreeMap::new();
    for (at, RouteSpec { matches, .. }) in specs.iter().enumerate() {
        let path = match &matches.path {
            PathRule::Exact(path) => (*path == request.path).then_some((0, 0)),
            PathRule::Prefix(prefix) => {
                let segments = |text: &str| -> Vec<String> {
                    text.trim_end_matches('/').split('/').map(str::to_owned).collect()
                };
                segments(&request.path)
                    .starts_with(&segments(prefix))
                    .then_some((1, -(prefix.trim_end_matches('/').len() as i64)))
            }
        };
        let method = matches.method.as_ref().is_none_or(|method| *method == request.method);
        let fields = matches.headers.iter().all(|(name, value)| {
            request.fields.get(name.as_str()).is_some_and(|there| *there == value.to_str().unwrap())
        });
        let Some(path) = path.filter(|_| method && fields) else { continue };
        let any = vec!["*".to_owned()];
        for pattern in if matches.hosts.is_empty() { &any } else { &matches.hosts } {
            let (name, of_port) = match pattern.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (pattern.as_str(), None),
            };
            let name_rank = match name.strip_prefix('*') {
                None => (name == host).then_some((0, 0)),
                Some("") => Some((2, 0)),
                Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len())
                    .then_some((1, -(suffix.len() as i64))),
            };
            let port_rank = match of_port {
                Some(_) => (of_port == port).then_some(0),
                None => Some(1),
            };
            if let (Some(name), Some(port)) = (name_rank, port_rank) {
                let rest = (matches.method.is_none(), -(matches.headers.len() as i64), at);
                best.insert((name, port, path, rest), at);
            }
        }
    }
    best.into_values().next()
}

#[derive(Clone, Debug)]
struct Sample {
    method: Method,
    authority: String,
    path: String,
    fields: BTreeMap<&'static str, &'static str>,
}

fn paths() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "ab", "b"]);
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, slash)| {
        let end = if slash && !segments.is_empty() { "/" } else { "" };
        format!("/{}{end}", segments.join("/"))
    })
}

fn hosts() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["a", "b", "a.b", "b.b", "a.b.b", "b.a.b"]);
    let port = prop::sample::select(vec!["", "", ":1", ":2"]);
    (names, port).prop_map(|(name, port)| format!("{name}{port}"))
}

fn patterns() -> impl Strategy<Value = String> {
    let port = prop::sample::select(vec!["", "", ":1"]);
    let wildcard = prop::sample::select(vec!["*", "*.b", "*.b.b", "*.a.b"]);
    prop_oneof![hosts(), (wildcard, port).prop_map(|(name, port)| format!("{name}{port}"))]
}

fn methods() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::POST])
}

fn fields() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let names = prop::sample::select(vec!["x", "y", "z"]);
    prop::collection::btree_map(names, prop::sample::select(vec!["1", "2"]), 0..3)
}

fn specs() -> impl Strategy<Value = Vec<RouteSpec>> {
    let path = (paths(), any::<bool>()).prop_map(|(path, exact)| {
        if exact { PathRule::Exact(path) } else { PathRule::Prefix(path) }
    });
    let hosts = prop::collection::vec(patterns(), 0..3);
    let spec = (hosts, path, prop::option::of(methods()), fields());
    prop::collection::vec(spec, 0..24).prop_map(|specs| {
        let specs = specs.into_iter().enumerate();
        specs
            .map(|(at, (hosts, path, method, fields))| {
                let headers = fields
                    .into_iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect();
                route(&at.to_string(), Match { hosts, path, method, headers })
            })
            .collect()
    })
}

fn samples() -> impl Strategy<Value = Sample> {
    (methods(), hosts(), paths(), fields()).prop_map(|(method, authority, path, fields)| Sample {
        method,
        authority,
        path,
        fields,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_route_is_the_first_by_the_definition(
        specs in specs(),
        samples in prop::collection::vec(samples(), 1..16),
    ) {
        let table = RouteTable::build(specs.clone()).unwrap();
        for sample in samples {
            let path: RequestPath<'_> = normalize(&sample.path, PathPolicy::Refuse).unwrap();
            let header = |name: &str| sample.fields.get(name).map(|value| value.as_bytes());
            let found = table.lookup(&sample.method, &sample.authority, &path, header);
            let found = found.map(|route| route.name.parse::<usize>().unwrap());
            prop_assert_eq!(found, by_definition(&specs, &sample), "{:?}", sample);
        }
    }
}
