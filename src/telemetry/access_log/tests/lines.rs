//! What lines look like, whatever they are made from.

use super::super::super::outcome::ResponseFlag;
use super::super::{CertificateFacts, Format, FormatError, ISTIO, TlsSession};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn text(format: &Format, entry: &Entry<'_>) -> String {
    String::from_utf8(format.line(entry)).unwrap()
}

fn custom(format: &str, entry: &Entry<'_>) -> String {
    let line = text(&format.parse().unwrap(), entry);
    line.strip_suffix('\n').unwrap().to_owned()
}

/// <https://istio.io/latest/docs/tasks/observability/logs/access-log/> shows these two lines.
#[test]
fn http_lines_are_those_that_istio_documents() {
    let mut outcome = teapot();
    assert_eq!(
        text(&Format::istio(), &entry(&outcome, &CURL)),
        "[2020-11-25T21:26:18.409Z] \"GET /status/418 HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 \
         4 4 \"-\" \"curl/7.73.0-DEV\" \"84961386-6d84-929d-98bd-c5aee93b5c88\" \
         \"httpbin:8000\" \"10.44.1.27:80\" outbound|8000||httpbin.foo.svc.cluster.local \
         10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default\n"
    );
    outcome.duration = Duration::from_millis(3);
    outcome.upstream_time = Some(Duration::from_millis(1));
    outcome.upstream = Some("127.0.0.1:80".parse().unwrap());
    outcome.cluster = Some("inbound|8000||");
    outcome.upstream_local = Some("127.0.0.1:41854".parse().unwrap());
    let mut entry = entry(&outcome, &CURL);
    entry.downstream_local = Some("10.44.1.27:80".parse().unwrap());
    entry.downstream_remote = Some("10.44.1.23:37652".parse().unwrap());
    entry.server_name = Some("outbound_.8000_._.httpbin.foo.svc.cluster.local");
    assert_eq!(
        text(&Format::istio(), &entry),
        "[2020-11-25T21:26:18.409Z] \"GET /status/418 HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 \
         3 1 \"-\" \"curl/7.73.0-DEV\" \"84961386-6d84-929d-98bd-c5aee93b5c88\" \
         \"httpbin:8000\" \"127.0.0.1:80\" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 \
         10.44.1.23:37652 outbound_.8000_._.httpbin.foo.svc.cluster.local default\n"
    );
}

/// As the log of an egress gateway in Istio's documentation, without the cluster's name there.
#[test]
fn a_relayed_connection_has_a_line_as_istios() {
    let mut outcome = Outcome::new(UNIX_EPOCH + Duration::from_millis(1_705_007_382_835));
    (outcome.received, outcome.sent) = (839, 2_504_306);
    outcome.duration = Duration::from_millis(231);
    outcome.upstream = Some("151.101.195.5:443".parse().unwrap());
    outcome.cluster = Some("outbound|443||edition.cnn.com");
    outcome.upstream_local = Some("172.30.239.8:34470".parse().unwrap());
    let mut entry = Entry::new(&outcome);
    entry.downstream_local = Some("172.30.239.8:443".parse().unwrap());
    entry.downstream_remote = Some("172.30.239.15:43956".parse().unwrap());
    entry.server_name = Some("edition.cnn.com");
    assert_eq!(
        text(&Format::istio(), &entry),
        "[2024-01-11T21:09:42.835Z] \"- - -\" 0 - - - \"-\" 839 2504306 231 - \"-\" \"-\" \"-\" \
         \"-\" \"151.101.195.5:443\" outbound|443||edition.cnn.com 172.30.239.8:34470 \
         172.30.239.8:443 172.30.239.15:43956 edition.cnn.com -\n"
    );
}

#[test]
fn what_went_wrong_is_in_the_line() {
    let mut outcome = Outcome::new(UNIX_EPOCH);
    outcome.status = 503;
    outcome.flag = ResponseFlag::UpstreamConnectionFailure;
    outcome.details = Some("upstream_reset_before_response_started");
    outcome.termination = Some("idle_timeout");
    outcome.transport_failure = Some("Connection refused (os error 111)");
    let mut entry = entry(&outcome, &());
    entry.downstream_remote = Some("[2001:db8::1]:443".parse().unwrap());
    entry.downstream_local = Some("[::ffff:10.0.0.1]:80".parse().unwrap());
    assert_eq!(
        text(&Format::istio(), &entry),
        "[1970-01-01T00:00:00.000Z] \"GET /status/418 HTTP/1.1\" 503 UF \
         upstream_reset_before_response_started idle_timeout \
         \"Connection refused (os error 111)\" 0 0 0 - \"-\" \"-\" \"-\" \"httpbin:8000\" \"-\" - - \
         10.0.0.1:80 [2001:db8::1]:443 - -\n"
    );
}

#[test]
fn json_has_istios_keys_and_types() {
    let outcome = teapot();
    let line = text(&Format::json(), &entry(&outcome, &CURL));
    assert_eq!(line.matches('\n').count(), 1);
    let expected = json!({
        "start_time": "2020-11-25T21:26:18.409Z",
        "method": "GET",
        "path": "/status/418",
        "protocol": "HTTP/1.1",
        "response_code": 418,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "connection_termination_details": null,
        "upstream_transport_failure_reason": null,
        "bytes_received": 0,
        "bytes_sent": 135,
        "duration": 4,
        "upstream_service_time": "4",
        "x_forwarded_for": null,
        "user_agent": "curl/7.73.0-DEV",
        "request_id": "84961386-6d84-929d-98bd-c5aee93b5c88",
        "authority": "httpbin:8000",
        "upstream_host": "10.44.1.27:80",
        "upstream_cluster": "outbound|8000||httpbin.foo.svc.cluster.local",
        "upstream_local_address": "10.44.1.23:37652",
        "downstream_local_address": "10.0.45.184:8000",
        "downstream_remote_address": "10.44.1.23:46520",
        "requested_server_name": null,
        "route_name": "default",
        "downstream_tls_version": null,
        "downstream_tls_cipher": null,
        "downstream_peer_uri_san": null,
        "downstream_peer_subject": null,
        "downstream_local_uri_san": null,
        "upstream_tls_version": null,
        "upstream_tls_cipher": null,
        "upstream_peer_uri_san": null,
        "upstream_peer_subject": null,
        "upstream_local_uri_san": null,
    });
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
}

/// The field of this name is a proxy's word about its own rewriting; from a peer it is a lie.
#[test]
fn the_original_path_is_never_what_a_peer_claims() {
    let outcome = teapot();
    let mut entry = entry(&outcome, &CURL);
    let format = "%REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%";
    assert_eq!(custom(format, &entry), "- /status/418");
    entry.request.as_mut().unwrap().original_path = Some(b"/v1/status/418");
    assert_eq!(custom(format, &entry), "/v1/status/418 /v1/status/418");
}

#[test]
fn formats_of_ones_own() {
    let answer: List<'_> = &[("server", b"gunicorn"), ("empty", b"")];
    let outcome = teapot();
    let mut entry = entry(&outcome, &CURL);
    entry.response = Some(&answer);
    for (format, line) in [
        ("", ""),
        ("plain\ttext", "plain\ttext"),
        ("%RESPONSE_CODE%\n", "418"),
        ("100%% of %BYTES_SENT%%%", "100% of 135%"),
        ("%REQ(User-Agent):4% %REQ(user-agent)%", "curl curl/7.73.0-DEV"),
        ("%REQ(x-missing?USER-AGENT)% %REQ(x-missing?x-too)%", "curl/7.73.0-DEV -"),
        ("%RESP(Server)% %RESP(Empty)% %RESP(x-missing)%", "gunicorn - -"),
        ("%REQ(host)%|%ROUTE_NAME%", "httpbin:8000|default"),
        ("é%DURATION%é", "é4é"),
    ] {
        assert_eq!(custom(format, &entry), line, "{format:?}");
    }
}

/// A session whose peer has put as much as it could into its names.
#[derive(Debug)]
struct Session {
    uri_names: Box<[Box<str>]>,
}

impl TlsSession for Session {
    fn version(&self) -> &'static str {
        "TLSv1.3"
    }

    fn cipher(&self) -> &'static str {
        "TLS_AES_128_GCM_SHA256"
    }

    fn server_name(&self) -> Option<&str> {
        Some("a.example")
    }

    fn peer(&self) -> Option<CertificateFacts<'_>> {
        Some(CertificateFacts {
            subject: "CN=a,O=\\\"b\\\" c",
            issuer: "CN=ca",
            serial: "0aff",
            uri_names: &self.uri_names,
            dns_names: &[],
            sha256: &[0xab; 32],
        })
    }

    fn local(&self) -> Option<CertificateFacts<'_>> {
        None
    }
}

#[test]
fn lines_tell_what_tls_has_settled() {
    let outcome = teapot();
    let names = ["spiffe://td/a", "https://\"x y"].map(Box::from).into();
    let session = Session { uri_names: names };
    let mut entry = entry(&outcome, &CURL);
    entry.server_name = Some("elsewhere.example");
    assert_eq!(custom("%REQUESTED_SERVER_NAME%", &entry), "elsewhere.example");
    entry.downstream_tls = Some(&session);
    for (format, line) in [
        ("%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION%", "a.example TLSv1.3"),
        ("%DOWNSTREAM_TLS_CIPHER% %UPSTREAM_TLS_CIPHER%", "TLS_AES_128_GCM_SHA256 -"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://td/a,https://\\x22x\\x20y"),
        ("\"%DOWNSTREAM_PEER_URI_SAN:9%\"", "\"spiffe://\""),
        ("\"%DOWNSTREAM_PEER_SUBJECT%\"", "\"CN=a,O=\\x5c\\x22b\\x5c\\x22 c\""),
        ("%DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_SERIAL%", "CN=ca 0aff"),
        ("%DOWNSTREAM_PEER_FINGERPRINT_256:4% %DOWNSTREAM_PEER_DNS_SAN%", "abab -"),
        ("%DOWNSTREAM_LOCAL_URI_SAN% %UPSTREAM_PEER_URI_SAN%", "- -"),
    ] {
        assert_eq!(custom(format, &entry), line, "{format}");
    }
    let json: Value = serde_json::from_str(&text(&Format::json(), &entry)).unwrap();
    assert_eq!(json["requested_server_name"], "a.example");
    assert_eq!(json["downstream_tls_version"], "TLSv1.3");
    assert_eq!(json["downstream_peer_uri_san"], "spiffe://td/a,https://\"x y");
    assert_eq!(json["upstream_tls_version"], Value::Null);
}

#[test]
fn as_many_names_as_a_certificate_can_have_are_cut() {
    let outcome = teapot();
    let session = Session { uri_names: vec!["\"".repeat(1000).into(); 40].into() };
    let mut entry = entry(&outcome, &CURL);
    entry.downstream_tls = Some(&session);
    let line = text(&Format::json(), &entry);
    let json: Value = serde_json::from_str(&line).unwrap();
    let names = json["downstream_peer_uri_san"].as_str().unwrap();
    assert!(names.ends_with("...") && names.len() < 9000, "{}", names.len());
}

#[test]
fn a_wrong_format_is_refused_with_its_place() {
    for (format, error) in [
        ("a %START%", "byte 2 of the format: there is no operator `START`"),
        ("é %", "byte 3 of the format: `%` has no `%` behind it; a percent sign is `%%`"),
        (
            "%DURATION",
            "byte 0 of the format: `%DURATION` has no `%` behind it; a percent sign is `%%`",
        ),
        ("%REQ%", "byte 0 of the format: `REQ` needs the name of a field: `REQ(…)`"),
        ("x%REQ(a", "byte 1 of the format: `REQ(` is not closed"),
        ("%REQ()%", "byte 0 of the format: `` is not the name of a field"),
        ("%REQ(:scheme)%", "byte 0 of the format: `:scheme` is not the name of a field"),
        ("%RESP(:path)%", "byte 0 of the format: `:path` is not the name of a field"),
        ("%REQ(a?b?c)%", "byte 0 of the format: `b?c` is not the name of a field"),
        ("%REQ(a):%", "byte 8 of the format: a number of bytes must follow the colon"),
        ("%START_TIME(%s)%", "byte 0 of the format: `START_TIME` with arguments is not known"),
        ("two\nlines", "byte 3 of the format: a control character would break lines"),
    ] {
        let found: FormatError = format.parse::<Format>().unwrap_err();
        assert_eq!(found.to_string(), error, "{format:?}");
    }
}

#[test]
fn what_could_break_or_forge_a_line_is_escaped() {
    let hostile: List<'_> = &[
        ("user-agent", b"a\" 200 - \"\\b\r\nx\x1b[2K\xff\xc3 \xc3\xa9"),
        ("x-request-id", "\u{85}\u{2028}\u{202e}\u{7f}\0".as_bytes()),
    ];
    let mut outcome = teapot();
    outcome.route = Some("two words");
    let entry = entry(&outcome, &hostile);
    assert_eq!(
        custom("\"%REQ(USER-AGENT)%\" %REQ(USER-AGENT)% %ROUTE_NAME%", &entry),
        r#""a\x22 200 - \x22\x5cb\x0d\x0ax\x1b[2K\xff\xc3 é" a\x22\x20200\x20-\x20\x22\x5cb\x0d\x0ax\x1b[2K\xff\xc3\x20é two\x20words"#
    );
    assert_eq!(custom("%REQ(X-REQUEST-ID)%", &entry), r"\xc2\x85\xe2\x80\xa8\xe2\x80\xae\x7f\x00");
    let json: Value = serde_json::from_slice(&Format::json().line(&entry)).unwrap();
    assert_eq!(json["user_agent"], "a\" 200 - \"\\b\r\nx\x1b[2K\\xff\\xc3 é");
    assert_eq!(json["request_id"], "\u{85}\u{2028}\u{202e}\u{7f}\0");
}

#[test]
fn long_values_are_cut_between_characters() {
    let long = "é".repeat(5000);
    let field: List<'_> = &[("x", long.as_bytes()), ("user-agent", long.as_bytes())];
    let outcome = teapot();
    let entry = entry(&outcome, &field);
    let expected = format!("{}...", "é".repeat(4096));
    assert_eq!(custom("%REQ(X)%", &entry), expected);
    let json: Value = serde_json::from_slice(&Format::json().line(&entry)).unwrap();
    assert_eq!(json["user_agent"], expected);
    assert_eq!(custom("%REQ(X):3%", &entry), "é");
    let continued: List<'_> = &[("x", &[0x80; 10])];
    let entry = super::entry(&outcome, &continued);
    assert_eq!(custom("%REQ(X):4%", &entry), r"\x80\x80\x80\x80", "no UTF-8 is cut anywhere");
}

/// The fields of a text line as a reader takes them apart: at spaces outside of quotes, with the
/// escapes undone.
fn split(line: &str) -> Vec<Vec<u8>> {
    let mut fields = vec![Vec::new()];
    let mut quoted = false;
    let mut rest = line.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        match byte {
            b'"' => quoted = !quoted,
            b' ' if !quoted => fields.push(Vec::new()),
            b'\\' => {
                assert_eq!(rest[0], b'x');
                let digits = std::str::from_utf8(&rest[1..3]).unwrap();
                fields.last_mut().unwrap().push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[3..];
            }
            _ => fields.last_mut().unwrap().push(*byte),
        }
    }
    assert!(!quoted, "{line}");
    fields
}

fn is_dangerous(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{202e}'
}

/// Bytes of which most could do harm.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        proptest::sample::select(vec![
            "\"",
            "\\",
            "\n",
            "\r\n",
            " ",
            "\\x22",
            "{",
            "%DURATION%",
            "é"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 1..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever comes in, a line is one line of as many fields as its format has, and they read back
    /// as what came in.
    #[test]
    fn a_text_line_reads_back(
        path in hostile(), agent in hostile(), authority in hostile(), route in "\\PC{1,10}",
    ) {
        let fields: List<'_> = &[("user-agent", &agent)];
        let mut outcome = teapot();
        outcome.route = Some(&route);
        let mut entry = entry(&outcome, &fields);
        let request = entry.request.as_mut().unwrap();
        (request.path, request.authority) = (&path, &authority);
        let line = text(&Format::istio(), &entry);
        let line = line.strip_suffix('\n').unwrap();
        prop_assert!(!line.chars().any(is_dangerous));
        let found = split(line);
        prop_assert_eq!(found.len(), split(ISTIO).len());
        let request = [b"GET ", &path[..], b" HTTP/1.1"].concat();
        for (place, value) in [(1, &request), (12, &agent), (14, &authority)] {
            prop_assert_eq!(&found[place], value);
        }
        prop_assert_eq!(&found[found.len() - 1], route.as_bytes());
    }

    /// The same of JSON, for another parser. Bytes that are no UTF-8 are spelt out.
    #[test]
    fn a_json_line_reads_back(path in hostile(), agent in hostile(), authority in any::<String>()) {
        let fields: List<'_> = &[("user-agent", &agent)];
        let outcome = teapot();
        let mut entry = entry(&outcome, &fields);
        let request = entry.request.as_mut().unwrap();
        (request.path, request.authority) = (&path, authority.as_bytes());
        let line = text(&Format::json(), &entry);
        let line = line.strip_suffix('\n').unwrap();
        prop_assert!(!line.chars().any(is_dangerous));
        let json: Value = serde_json::from_str(line).unwrap();
        let spelt = |bytes: &[u8]| {
            let mut text = String::new();
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
            }
            text
        };
        prop_assert_eq!(&json["path"], &spelt(&path));
        prop_assert_eq!(&json["user_agent"], &spelt(&agent));
        prop_assert_eq!(&json["authority"], &authority);
    }

    /// Any text is a format or is refused at a place inside of it, and a format gives one line.
    #[test]
    fn any_text_is_a_format_or_is_refused(
        pieces in proptest::collection::vec(
            prop_oneof![
                "\\PC{0,4}".boxed(),
                proptest::sample::select(vec!["%", "%REQ(", ")%", ":5%", "%DURATION%", "\"", "?"])
                    .prop_map(str::to_owned).boxed(),
            ],
            0..12,
        ),
    ) {
        let format = pieces.concat();
        match format.parse::<Format>() {
            Ok(parsed) => {
                let outcome = teapot();
                let line = text(&parsed, &entry(&outcome, &()));
                prop_assert_eq!(line.matches('\n').count(), 1);
            }
            Err(error) => prop_assert!(error.at <= format.len() && format.is_char_boundary(error.at)),
        }
    }
}
