use super::{Headers, InvalidHeader};
use http::{HeaderName, HeaderValue, header};
use proptest::{collection::vec, prelude::*};

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name, value).unwrap();
    }
    headers
}

#[test]
fn names_compare_without_case_and_keep_their_spelling() {
    let headers = headers(&[("X-One", "1"), ("x-two", "2"), ("x-ONE", "3")]);
    assert_eq!(headers.get("x-one"), Some(&b"1"[..]));
    assert_eq!(headers.get_str("X-TWO"), Some("2"));
    assert_eq!(headers.get_all("x-One").collect::<Vec<_>>(), [b"1", b"3"]);
    assert!(headers.contains("x-two") && !headers.contains("x-tw") && !headers.contains(""));
    let fields: Vec<_> = headers.iter().collect();
    assert_eq!(fields, [("X-One", &b"1"[..]), ("x-two", b"2"), ("x-ONE", b"3")]);
    assert_eq!(headers.as_wire(), b"X-One: 1\r\nx-two: 2\r\nx-ONE: 3\r\n");
}

#[test]
fn insert_replaces_all_and_remove_takes_all() {
    let mut headers = headers(&[("a", "1"), ("b", "2"), ("A", "3"), ("c", "4")]);
    headers.insert("a", "5").unwrap();
    assert_eq!(headers.as_wire(), b"b: 2\r\nc: 4\r\na: 5\r\n");
    assert!(headers.remove("B") && !headers.remove("B"));
    assert_eq!((headers.as_wire(), headers.len()), (&b"c: 4\r\na: 5\r\n"[..], 2));
    assert_eq!(headers.get("a"), Some(&b"5"[..]));
    headers.clear();
    assert!(headers.is_empty() && headers.as_wire().is_empty());
}

#[test]
fn the_types_of_the_http_crate_are_taken() {
    let mut headers = Headers::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("x")).unwrap();
    headers.append(HeaderName::from_static("x-y"), b"\xff").unwrap();
    assert_eq!(headers.get(header::USER_AGENT), Some(&b"x"[..]));
    assert_eq!((headers.get("x-y"), headers.get_str("x-y")), (Some(&b"\xff"[..]), None));
    assert!(headers.remove(&header::USER_AGENT));
}

#[test]
fn nothing_can_be_smuggled_into_the_section() {
    let mut headers = headers(&[("kept", "1")]);
    for name in ["", "a b", "a:", "a\r\nb", "\u{e9}", "a\0", " a", "a "] {
        assert_eq!(headers.insert(name, "x"), Err(InvalidHeader::Name), "{name:?}");
    }
    for value in ["a\r\nb: c", "a\nb", "a\rb", "\0", "\x7f", "a\x1b"] {
        assert_eq!(headers.append("kept", value), Err(InvalidHeader::Value), "{value:?}");
        assert_eq!(headers.insert("kept", value), Err(InvalidHeader::Value), "{value:?}");
    }
    for name in [
        "connection",
        "Content-Length",
        "expect",
        "HOST",
        "http2-settings",
        "Keep-Alive",
        "proxy-connection",
        "TE",
        "Transfer-Encoding",
        "upgrade",
    ] {
        assert_eq!(headers.insert(name, "x"), Err(InvalidHeader::Framing), "{name}");
        assert_eq!(headers.append(name, "x"), Err(InvalidHeader::Framing), "{name}");
    }
    let large = vec![b'x'; 17 << 20];
    assert_eq!(headers.insert("kept", &large), Err(InvalidHeader::TooLarge));
    assert_eq!(headers.as_wire(), b"kept: 1\r\n");
    headers.append("spaced", "  a\tb \t").unwrap();
    headers.append("empty", " ").unwrap();
    assert_eq!(headers.as_wire(), b"kept: 1\r\nspaced: a\tb\r\nempty: \r\n");
}

proptest! {
    /// Against a list of pairs.
    #[test]
    fn any_changes_leave_what_a_list_would_hold(
        changes in vec((0..4, "[abAB]{1,2}", "[a-z]{0,5}"), 0..40),
    ) {
        let mut headers = Headers::new();
        let mut list: Vec<(String, String)> = Vec::new();
        for (kind, name, value) in changes {
            let others = |(other, _): &(String, String)| !other.eq_ignore_ascii_case(&name);
            match kind {
                0 | 1 => headers.append(&name, &value).unwrap(),
                2 => {
                    headers.insert(&name, &value).unwrap();
                    list.retain(others);
                }
                _ => {
                    let before = list.len();
                    list.retain(others);
                    prop_assert_eq!(headers.remove(&name), before != list.len());
                    continue;
                }
            }
            list.push((name, value));
        }
        let fields: Vec<_> = headers.iter().map(|(n, v)| (n, str::from_utf8(v).unwrap())).collect();
        let expected: Vec<_> = list.iter().map(|(n, v)| (&**n, &**v)).collect();
        prop_assert_eq!(fields, expected);
        let wire: String = list.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        prop_assert_eq!(headers.as_wire(), wire.as_bytes());
        prop_assert_eq!(headers.len(), list.len());
    }
}
