use std::time::Duration;

use super::*;
use crate::http::route::{
    Clusters, HeaderChanges, RetryPolicy, Rewrite, RouteError, RouteProblem, RouteTable,
};

fn forward() -> Action {
    Action::Forward(Clusters::one("cluster"))
}

/// What is wrong with the second of two routes, in words.
#[track_caller]
fn refused(matches: Match, route: Route) -> String {
    let fine = RouteSpec { matches: Match::default(), route: Route::new("fine", forward()) };
    let error = RouteTable::build(vec![fine, RouteSpec { matches, route }]).unwrap_err();
    assert_eq!((error.position, error.name.as_str()), (1, "odd"));
    let text = error.to_string();
    text.strip_prefix("route 2 (\"odd\"): ").expect("the text names the route").to_owned()
}

fn odd(change: impl FnOnce(&mut Route)) -> Route {
    let mut route = Route::new("odd", forward());
    change(&mut route);
    route
}

fn builds(matches: Match, route: Route) {
    assert!(check(RouteSpec { matches, route }).is_ok());
}

#[test]
fn hosts_that_are_none_are_refused() {
    for (host, part) in [
        ("", "labels"),
        ("a..example", "labels"),
        (".example", "labels"),
        ("a.example..", "labels"),
        ("a b", "labels"),
        ("a/b", "labels"),
        ("user@a.example", "labels"),
        ("*.", "labels"),
        ("a.*.example", "in front"),
        ("**.example", "in front"),
        ("*a.example", "in front"),
        ("*.*", "in front"),
        ("bücher.example", "xn--"),
        ("a.example:", "65535"),
        ("a.example:0", "65535"),
        ("a.example:65536", "65535"),
        ("a.example:http", "65535"),
        ("[a.example]", "IPv6"),
        ("[::1", "IPv6"),
        ("::1", "labels"),
    ] {
        let matches = Match { hosts: vec!["b.example".into(), host.into()], ..Match::default() };
        let text = refused(matches, odd(|_| {}));
        assert!(text.starts_with(&format!("host {host:?}: ")) && text.contains(part), "{text}");
    }
    let long = format!("{}.example", "a".repeat(248));
    assert!(HostPattern::parse(&long).is_err() && HostPattern::parse(&long[1..]).is_ok());
    for host in ["*", "*:80", "a", "A.Example.", "127.0.0.1:1", "[::1]", "[::1]:80", "_dns.a"] {
        builds(Match { hosts: vec![host.into()], ..Match::default() }, odd(|_| {}));
    }
}

#[test]
fn paths_that_match_nothing_are_refused() {
    for (path, part) in [
        ("", "begins with /"),
        ("v1", "begins with /"),
        ("*", "begins with /"),
        ("/a?b", "query"),
        ("/a#b", "query"),
        ("/100%", "%25"),
        ("/%zz", "%25"),
        ("/%00", "%25"),
        ("/a/../b", "dot segments"),
        ("/a/%2e%2e/b", "dot segments"),
        ("/.", "dot segments"),
    ] {
        for rule in [PathRule::Exact(path.into()), PathRule::Prefix(path.into())] {
            let text = refused(Match { path: rule, ..Match::default() }, odd(|_| {}));
            assert!(text.starts_with(&format!("path {path:?}: ")) && text.contains(part), "{text}");
        }
    }
}

#[test]
fn a_header_field_is_matched_once() {
    let field = |value| (HeaderName::from_static("x-a"), HeaderValue::from_static(value));
    let matches = Match { headers: vec![field("1"), field("2")], ..Match::default() };
    assert!(refused(matches, odd(|_| {})).contains("header x-a is matched twice"));
}

#[test]
fn rewrites_that_lead_nowhere_are_refused() {
    let path = |change| odd(|route| route.rewrite.path = Some(change));
    for (change, part) in [
        (PathChange::full(""), "begins with /"),
        (PathChange::full("x"), "begins with /"),
        (PathChange::prefix("x/"), "begins with /"),
        (PathChange::full("//evil.example"), "two slashes"),
        (PathChange::prefix("/\\evil.example"), "two slashes"),
        (PathChange::full("/a?b"), "query"),
        (PathChange::full("/a/../b"), "dot segments"),
        (PathChange::full("/ö"), "ASCII"),
        (PathChange::full("/a b"), "ASCII"),
        (PathChange::full("/a\r\nb"), "ASCII"),
    ] {
        let text = refused(Match::default(), path(change.clone()));
        assert!(text.contains(part), "{change:?}: {text}");
    }
    for change in [PathChange::full("/"), PathChange::prefix(""), PathChange::prefix("//")] {
        builds(Match::default(), path(change));
    }
    let exact = Match { path: PathRule::Exact("/a".into()), ..Match::default() };
    assert!(refused(exact.clone(), path(PathChange::prefix("/b"))).contains("match a prefix"));
    builds(exact, path(PathChange::full("/b")));

    for host in ["*.example", "*", "a b", "a.example:0"] {
        let route = odd(|route| route.rewrite.host = Some(host.into()));
        assert!(refused(Match::default(), route).starts_with(&format!("host {host:?}")));
    }
    builds(Match::default(), odd(|route| route.rewrite.host = Some("a.example:80".into())));
}

#[test]
fn redirects_that_lead_nowhere_are_refused() {
    let redirect = |redirect| odd(|route| route.action = Action::Redirect(redirect));
    let host = |host: &str| Redirect { host: Some(host.into()), ..Redirect::default() };
    assert!(refused(Match::default(), redirect(host("*"))).contains("not a host"));
    assert!(refused(Match::default(), redirect(host("a.example:80"))).contains("given apart"));
    let path = Redirect { path: Some(PathChange::full("//evil")), ..Redirect::default() };
    assert!(refused(Match::default(), redirect(path)).contains("two slashes"));
    builds(Match::default(), redirect(host("[::1]")));
}

#[test]
fn answers_that_cannot_be_sent_are_refused() {
    let respond = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let respond = Respond { status, content_type: None, body: body.into() };
        odd(|route| route.action = Action::Respond(respond))
    };
    for status in [100, 101, 199, 600, 999] {
        assert!(refused(Match::default(), respond(status, "")).contains("200 to 599"));
    }
    for status in [204, 205, 304] {
        assert!(refused(Match::default(), respond(status, "x")).contains("has no body"));
        builds(Match::default(), respond(status, ""));
    }
    builds(Match::default(), respond(200, "x"));
    builds(Match::default(), respond(599, ""));
}

#[test]
fn fields_that_frame_a_message_are_not_changed() {
    let value = HeaderValue::from_static("x");
    for name in ["content-length", "transfer-encoding", "connection", "te", "upgrade", "host"] {
        let name = HeaderName::from_static(name);
        let remove = HeaderChanges { remove: vec![name.clone()], ..HeaderChanges::default() };
        let put = vec![(name.clone(), value.clone())];
        let set = HeaderChanges { set: put.clone(), ..HeaderChanges::default() };
        let add = HeaderChanges { add: put, ..HeaderChanges::default() };
        for changes in [remove, set, add] {
            let request = odd(|route| route.request_headers = changes.clone());
            let response = odd(|route| route.response_headers = changes.clone());
            for route in [request, response] {
                let text = refused(Match::default(), route);
                assert!(text.starts_with(&format!("header {name} cannot be changed")), "{text}");
            }
        }
    }
}

#[test]
fn times_and_retries_that_make_no_sense_are_refused() {
    let after = |millis| TimeLimit::After(Duration::from_millis(millis));
    let zero = odd(|route| route.timeout = after(0));
    assert!(refused(Match::default(), zero).contains("\"off\""));
    let times = |all, one| {
        odd(|route| {
            route.timeout = all;
            route.try_timeout = one;
        })
    };
    assert!(refused(Match::default(), times(after(1), after(2))).contains("one try"));
    builds(Match::default(), times(after(2), after(2)));
    builds(Match::default(), times(TimeLimit::Off, after(2)));

    let retry = |status| {
        let statuses = vec![StatusCode::from_u16(status).unwrap()];
        odd(|route| route.retry = Some(RetryPolicy { statuses, ..RetryPolicy::default() }))
    };
    assert!(refused(Match::default(), retry(200)).contains("400 to 599"));
    builds(Match::default(), retry(503));
}

#[test]
fn what_only_an_upstream_needs_is_refused_without_one() {
    let redirect = |change: fn(&mut Route)| {
        odd(|route| {
            route.action = Action::Redirect(Redirect::default());
            change(route);
        })
    };
    for route in [
        redirect(|route| route.rewrite = Rewrite { host: Some("a".into()), path: None }),
        redirect(|route| route.rewrite.path = Some(PathChange::full("/"))),
        redirect(|route| route.request_headers.remove = vec![HeaderName::from_static("x")]),
        redirect(|route| route.retry = Some(RetryPolicy::default())),
        redirect(|route| route.try_timeout = TimeLimit::Off),
    ] {
        assert!(refused(Match::default(), route).contains("forwards nothing"));
    }
    builds(
        Match::default(),
        redirect(|route| route.response_headers.remove = vec![HeaderName::from_static("x")]),
    );
}

#[test]
fn a_route_says_or_inherits_its_time_limit() {
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    assert_eq!(TimeLimit::Inherit.or(Some(minute)), Some(minute));
    assert_eq!(TimeLimit::Off.or(Some(minute)), None);
    assert_eq!(TimeLimit::After(second).or(Some(minute)), Some(second));
    assert_eq!(TimeLimit::After(second).or(None), Some(second));
}

#[test]
fn errors_say_which_route_and_what_to_do() {
    let error = RouteError { position: 0, name: "reviews".into(), problem: RouteProblem::NoPrefix };
    assert_eq!(
        error.to_string(),
        "route 1 (\"reviews\"): a prefix is replaced, but the route matches an exact path: match a \
         prefix, or replace the full path"
    );
}
