//! Any text is a format of the access log, or is refused at a place inside of it; and whatever is
//! logged in it, or as JSON, is one line of UTF-8 that no control character is in.
//!
//! The input is a format, a path, a field's value and a route's name, with NUL between them.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use evenkeel::telemetry::{
    Outcome,
    access_log::{Entry, Format, Request},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (text, path, agent, route) = (part(), part(), part(), part());
    let (Ok(text), Ok(route)) = (str::from_utf8(text), str::from_utf8(route)) else { return };
    let number =
        agent.iter().fold(input.len() as u64, |hash, b| hash.wrapping_mul(31) ^ u64::from(*b));
    let mut outcome = Outcome::new(UNIX_EPOCH + Duration::from_millis(number % (1 << 53)));
    (outcome.received, outcome.sent, outcome.status) = (number, !number, number as u16);
    outcome.route = Some(route);
    let fields: &[(&str, &[u8])] = &[("user-agent", agent)];
    let mut entry = Entry::new(&outcome);
    entry.request = Some(Request {
        method: "GET",
        path,
        original_path: None,
        authority: agent,
        protocol: "HTTP/1.1",
        fields: &fields,
    });
    match text.parse::<Format>() {
        Ok(format) => check(&format.line(&entry)),
        Err(error) => assert!(text.is_char_boundary(error.at) && !error.message.is_empty()),
    }
    check(&Format::istio().line(&entry));
    let json = Format::json().line(&entry);
    check(&json);
    let json: serde_json::Value = serde_json::from_slice(&json).expect("a line is JSON");
    assert_eq!(json["bytes_received"], number);
    if route.len() <= 8 << 10 {
        assert_eq!(json["route_name"], route);
    }
});

/// One whole line.
fn check(line: &[u8]) {
    let line = str::from_utf8(line).expect("a line is UTF-8");
    let line = line.strip_suffix('\n').expect("a line ends");
    assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
}
