use super::*;
use proptest::prelude::*;

#[track_caller]
fn head(bytes: &str) -> Head {
    parse(bytes.as_bytes()).unwrap().unwrap()
}

#[track_caller]
fn refusal(bytes: &str) -> Refusal {
    parse(bytes.as_bytes()).unwrap_err()
}

#[test]
fn a_head_is_taken_apart() {
    let bytes = "POST /lo%67ging?level=info%2Cevenkeel=debug&x+y&&z= HTTP/1.1\r\nHost: a\r\n\
                 Content-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc";
    let head = head(bytes);
    assert_eq!(head.request.method(), "POST");
    assert_eq!(head.request.path(), "/logging");
    assert_eq!(head.request.query("level"), Some("info,evenkeel=debug"));
    assert_eq!(head.request.query("x y"), Some(""));
    assert_eq!(head.request.query("z"), Some(""));
    assert_eq!(head.request.query("absent"), None);
    assert_eq!(head.body_length, 3);
    assert!(head.expects_continue);
    assert_eq!(&bytes[head.length..], "abc");
}

#[test]
fn all_forms_of_a_target_name_a_path() {
    for (target, path) in [
        ("/", "/"),
        ("http://admin:15000/ready", "/ready"),
        ("HTTP://admin", "/"),
        ("http://admin?exit=false", "/"),
        ("/a://b", "/a://b"),
    ] {
        assert_eq!(head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).request.path(), path);
    }
    for target in ["*", "ready", "ftp://a/b", "/%", "/%4", "/%zz", "/%ff", "/?a=%+1"] {
        let refusal = refusal(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(matches!(refusal, Refusal::Bad(_)), "{target}");
    }
}

#[test]
fn broken_framing_is_refused() {
    let post = |fields: &str| refusal(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    for length in ["-1", "+1", "0x1", "1 1", "", "1, 1"] {
        let refusal = post(&format!("Content-Length: {length}\r\n"));
        assert!(matches!(refusal, Refusal::Bad(_)), "{length}");
    }
    assert!(matches!(post("Content-Length: 1\r\nContent-Length: 2\r\n"), Refusal::Bad(_)));
    assert_eq!(post("Content-Length: 65537\r\n"), Refusal::BodyTooLarge);
    assert_eq!(post("Content-Length: 99999999999999999999999\r\n"), Refusal::BodyTooLarge);
    assert_eq!(post("Transfer-Encoding: chunked\r\n"), Refusal::NoLength);
    assert_eq!(post("Transfer-Encoding: gzip\r\nContent-Length: 1\r\n"), Refusal::NoLength);
    assert_eq!(post("Origin: http://page\r\n"), Refusal::FromWebPage);
    let twice = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(head(twice).body_length, 7);
}

#[test]
fn hosts_and_versions() {
    assert!(matches!(refusal("GET / HTTP/1.1\r\n\r\n"), Refusal::Bad(_)));
    assert!(matches!(refusal("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"), Refusal::Bad(_)));
    assert!(matches!(refusal("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Refusal::Bad(_)));
    assert_eq!(head("GET /ready HTTP/1.0\r\n\r\n").request.path(), "/ready");
    assert_eq!(head("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://page\r\n\r\n").body_length, 0);
}

#[test]
fn heads_have_a_limit() {
    let many = "a: b\r\n".repeat(65);
    assert_eq!(refusal(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Refusal::HeadTooLarge);
    let long = "a".repeat(MAX_HEAD_BYTES);
    assert_eq!(refusal(&format!("GET /{long}")), Refusal::HeadTooLarge);
    let complete = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refusal(&complete), Refusal::HeadTooLarge);
}

proptest! {
    #[test]
    fn no_input_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        _ = parse(&bytes);
    }

    #[test]
    fn no_target_is_a_panic(target in "[!-~]{0,64}") {
        _ = parse(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    }

    /// A prefix of a good head is incomplete, never wrong and never complete.
    #[test]
    fn a_prefix_is_incomplete(path in "/[a-z]{0,20}", body in 0usize..1000, cut in any::<prop::sample::Index>()) {
        let bytes = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n");
        let head = parse(bytes.as_bytes()).unwrap().unwrap();
        prop_assert_eq!(head.request.path(), path);
        prop_assert_eq!(head.body_length, body);
        prop_assert_eq!(head.length, bytes.len());
        let prefix = &bytes.as_bytes()[..cut.index(bytes.len())];
        prop_assert_eq!(parse(prefix), Ok(None));
    }

    #[test]
    fn what_is_encoded_comes_back(text in "\\PC{0,30}") {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(decode(&encoded), Ok(text));
    }
}
