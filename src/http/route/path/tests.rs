use proptest::prelude::*;

use super::*;

fn refuse(path: &str) -> Result<RequestPath<'_>, PathRefused> {
    normalize(path, PathPolicy::Refuse)
}

fn resolve(path: &str) -> Result<RequestPath<'_>, PathRefused> {
    normalize(path, PathPolicy::Resolve)
}

fn matched(path: &RequestPath<'_>) -> String {
    String::from_utf8(path.matched().to_vec()).unwrap()
}

#[test]
fn a_plain_path_is_matched_and_forwarded_as_it_came() {
    for path in [
        "/",
        "*",
        "/v1",
        "/v1/",
        "/a.b/..c/...",
        "/.well-known/acme-challenge/x",
        "/a%20b/caf%C3%A9",
        "/100%25",
        "/a;b=c/@me:x$&'()+,=~",
        "/{x}|y",
    ] {
        let normal = refuse(path).unwrap();
        assert_eq!((normal.forwarded(), &*matched(&normal)), (path, path));
        assert!(matches!(normal.forwarded, Cow::Borrowed(_)) && normal.matched.is_none(), "{path}");
        let normal = resolve(path).unwrap();
        assert_eq!((normal.forwarded(), &*matched(&normal)), (path, path));
    }
    assert_eq!(refuse("").unwrap().forwarded(), "/");
}

#[test]
fn another_spelling_is_matched_as_the_backend_may_read_it_and_forwarded_as_it_came() {
    for (path, as_matched) in [
        ("/%61dmin", "/admin"),
        ("//admin", "/admin"),
        ("/x///admin//", "/x/admin/"),
        ("/%2Fadmin", "/admin"),
        ("/x%2fadmin", "/x/admin"),
        ("/\\admin", "/admin"),
        ("/x%5cadmin", "/x/admin"),
        ("/x/%5C\\/%2f//admin", "/x/admin"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%40me%3Bv%3d1", "/@me;v=1"),
        ("/%252e%252e/admin", "/%252e%252e/admin"),
        ("/a%3fb%23c", "/a%3Fb%23c"),
        ("/a%0d%0Ab%7f", "/a%0D%0Ab%7F"),
    ] {
        let normal = refuse(path).unwrap();
        assert_eq!((normal.forwarded(), &*matched(&normal)), (path, as_matched));
    }
}

#[test]
fn what_could_route_around_a_rule_is_refused() {
    for path in [
        "/..",
        "/.",
        "/../admin",
        "/x/../admin",
        "/x/./admin",
        "/x/..",
        "/x/%2e%2E/admin",
        "/x/.%2e",
        "/x/%2e./",
        "/x%2f..%2fadmin",
        "/x\\..\\admin",
        "/x%5C..%5Cadmin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/%2e%2e%3b/admin",
        "/x/.;/admin",
        "/x//../admin",
        "..",
        "../admin",
    ] {
        assert_eq!(refuse(path).unwrap_err(), PathRefused::DotSegment, "{path}");
    }
    for policy in [PathPolicy::Refuse, PathPolicy::Resolve] {
        for path in ["/%", "/a%2", "/%zz", "/%u002e", "/%+1", "/% 41", "/100%/x"] {
            assert_eq!(normalize(path, policy).unwrap_err(), PathRefused::Escape, "{path}");
        }
        assert_eq!(normalize("/a%00/b", policy).unwrap_err(), PathRefused::Nul);
    }
}

#[test]
fn a_path_is_resolved_where_the_policy_says_so() {
    for (path, forwarded) in [
        ("/x/../admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/..", "/"),
        ("/..", "/"),
        ("/.", "/"),
        // RFC 3986 section 5.2.4.
        ("/a/b/c/./../../g", "/a/g"),
        ("/a//b///", "/a/b/"),
        ("/a//../b", "/b"),
        ("/a\\b%2Fc%5Cd", "/a/b/c/d"),
        ("/x/%2e%2e/admin", "/admin"),
        ("/x/..;v=1/admin", "/admin"),
        // What is not about segments stays.
        ("/x/../%61%20%3B//b", "/%61%20%3B/b"),
        ("/%61dmin", "/%61dmin"),
    ] {
        assert_eq!(resolve(path).unwrap().forwarded(), forwarded, "{path}");
    }
    let normal = resolve("/x/../%61dmin").unwrap();
    assert_eq!((normal.forwarded(), &*matched(&normal)), ("/%61dmin", "/admin"));
}

#[test]
fn reasons_are_stable() {
    assert_eq!(
        [PathRefused::DotSegment, PathRefused::Escape, PathRefused::Nul].map(PathRefused::reason),
        ["path_dot_segment", "path_malformed_escape", "path_nul"]
    );
}

/// Paths of the pieces that matter.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "//", "\\", "%2F", "%2f", "%5c", ".", "..", "%2e", "%2E", ";", "%3B", "a",
        "b", "%61", "%41", "%20", "%c3%A9", "%25", "%", "%0", "%00", "é", "?",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_passes_has_one_spelling_and_stays_in_place(path in paths()) {
        for policy in [PathPolicy::Refuse, PathPolicy::Resolve] {
            let Ok(normal) = normalize(&path, policy) else { continue };
            let text = matched(&normal);
            prop_assert!(text.starts_with('/'));
            prop_assert!(!text.contains("//") && !text.contains('\\'), "{}", text);
            for segment in text.split('/') {
                let name = segment.split(';').next().unwrap();
                prop_assert!(name != "." && name != "..", "{}", text);
            }
            // Again, nothing changes.
            let again = normalize(&text, policy).unwrap();
            prop_assert_eq!(again.forwarded(), &*text);
            prop_assert_eq!(matched(&again), &*text);
            // And what is forwarded is matched alike.
            let forwarded = normalize(normal.forwarded(), policy).unwrap();
            prop_assert_eq!(forwarded.matched(), normal.matched());
            if policy == PathPolicy::Refuse {
                prop_assert_eq!(normal.forwarded(), &path);
            }
        }
    }

    /// A backend that decodes, merges and resolves all it can gets to the place that was matched.
    #[test]
    fn the_most_eager_reading_is_what_is_matched(path in paths()) {
        let Ok(normal) = refuse(&path) else { return Ok(()) };
        prop_assert_eq!(eager_reading(normal.forwarded()), eager_reading(&matched(&normal)));
    }

    #[test]
    fn what_is_behind_a_prefix_is_the_rest_of_what_came(path in paths()) {
        let Ok(normal) = refuse(&path) else { return Ok(()) };
        let text = matched(&normal);
        // Prefixes have no slash at the end.
        let whole = (!text.ends_with('/')).then_some(text.len());
        let ends = text.match_indices('/').map(|(at, _)| at).chain(whole);
        for end in ends {
            let behind = normal.behind(end);
            prop_assert!(normal.forwarded().ends_with(behind));
            let rest = canonical(behind.as_bytes()).unwrap();
            let rest = rest.as_deref().unwrap_or(behind.as_bytes());
            prop_assert_eq!(rest, &text.as_bytes()[end..]);
        }
    }
}

/// Reads a path as a careless backend would: everything decoded once, all slashes alike, dots
/// resolved, one after the other over the whole text.
fn eager_reading(path: &str) -> Vec<Vec<u8>> {
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for segment in decoded.split(|&byte| byte == b'/' || byte == b'\\') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name.to_vec()),
        }
    }
    segments
}
