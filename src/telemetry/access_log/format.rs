//! What a line looks like: Istio's text, JSON with Istio's keys, or a text of your own in Envoy's
//! notation.

use std::{fmt, str::FromStr, sync::Arc};

use super::{
    entry::Entry,
    time::Clock,
    value::{Lookup, Name, Operator},
};

/// The text that Istio's proxies write unless they are told otherwise
/// (<https://istio.io/latest/docs/tasks/observability/logs/access-log/>).
pub const ISTIO: &str = "[%START_TIME%] \
    \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// The keys of Istio's JSON lines, and what stands behind each. Those about TLS are our own, called
/// as their operators.
const JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("downstream_tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("downstream_tls_cipher", "%DOWNSTREAM_TLS_CIPHER%"),
    ("downstream_peer_uri_san", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("downstream_peer_subject", "%DOWNSTREAM_PEER_SUBJECT%"),
    ("downstream_local_uri_san", "%DOWNSTREAM_LOCAL_URI_SAN%"),
    ("upstream_tls_version", "%UPSTREAM_TLS_VERSION%"),
    ("upstream_tls_cipher", "%UPSTREAM_TLS_CIPHER%"),
    ("upstream_peer_uri_san", "%UPSTREAM_PEER_URI_SAN%"),
    ("upstream_peer_subject", "%UPSTREAM_PEER_SUBJECT%"),
    ("upstream_local_uri_san", "%UPSTREAM_LOCAL_URI_SAN%"),
];

/// What a line looks like. Cheap to clone.
///
/// A text of your own is parsed ([`FromStr`]) and holds, besides text, operators in Envoy's notation,
/// `%NAME%`: those that [`ISTIO`] uses, with any field in `REQ(…)` and `RESP(…)`. `REQ(A?B)` is B
/// where A is absent, a `:20` behind an operator cuts its value to 20 bytes, and `%%` is a percent
/// sign.
///
/// ```
/// use evenkeel::telemetry::access_log::Format;
///
/// assert!("%START_TIME% %REQ(:PATH):100% %RESPONSE_CODE%".parse::<Format>().is_ok());
/// let error = "took %DURATIN% ms".parse::<Format>().unwrap_err();
/// assert_eq!(error.to_string(), "byte 5 of the format: there is no operator `DURATIN`");
/// ```
#[derive(Clone, Debug)]
pub struct Format(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Text(Vec<Segment>),
    /// Each key in quotes, with what stands before and behind it.
    Json(Vec<(String, Operator)>),
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<[u8]>),
    Field {
        operator: Operator,
        /// It stands between quotes.
        quoted: bool,
        longest: Option<usize>,
    },
}

impl Format {
    /// The text that Istio's proxies write: [`ISTIO`].
    #[must_use]
    pub fn istio() -> Format {
        Format(Arc::new(Kind::Text(parse(ISTIO).unwrap_or_default())))
    }

    /// JSON, one object a line, with the keys and types of Istio's, and keys about TLS behind them.
    #[must_use]
    pub fn json() -> Format {
        let mut members = Vec::new();
        for (key, operator) in JSON {
            if let Ok((operator, ..)) = Parser::new(&operator[1..]).operator() {
                let before = if members.is_empty() { '{' } else { ',' };
                members.push((format!("{before}\"{key}\":"), operator));
            }
        }
        Format(Arc::new(Kind::Json(members)))
    }

    /// The line of an entry, with its end: what a log writes. A log formats into memory that it has.
    #[must_use]
    pub fn line(&self, entry: &Entry<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        self.write(entry, &mut Clock::new(), &mut line);
        line
    }

    /// Appends the line of an entry, with its end.
    pub(super) fn write(&self, entry: &Entry<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        match &*self.0 {
            Kind::Text(segments) => {
                for segment in segments {
                    match segment {
                        Segment::Literal(text) => out.extend_from_slice(text),
                        Segment::Field { operator, quoted, longest } => {
                            operator.value(entry).write_text(*quoted, *longest, clock, out);
                        }
                    }
                }
            }
            Kind::Json(members) => {
                for (key, operator) in members {
                    out.extend_from_slice(key.as_bytes());
                    operator.value(entry).write_json(clock, out);
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }
}

impl Default for Format {
    /// [`istio`](Self::istio).
    fn default() -> Format {
        Format::istio()
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Format, FormatError> {
        Ok(Format(Arc::new(Kind::Text(parse(text)?))))
    }
}

/// A text is no format.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FormatError {
    /// Where in the text, in bytes from its start.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the format: {}", self.at, self.message)
    }
}

impl std::error::Error for FormatError {}

fn parse(text: &str) -> Result<Vec<Segment>, FormatError> {
    // The end of a line is added to each.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut parser = Parser::new(text);
    let mut segments = Vec::new();
    let mut literal = String::new();
    let mut quoted = false;
    while let Some(character) = parser.next() {
        match character {
            '%' if !parser.take('%') => {
                if !literal.is_empty() {
                    segments
                        .push(Segment::Literal(std::mem::take(&mut literal).into_bytes().into()));
                }
                let (operator, longest) = parser.operator()?;
                segments.push(Segment::Field { operator, quoted, longest });
            }
            '\t' => literal.push(character),
            _ if character.is_control() => {
                let at = parser.at - character.len_utf8();
                return Err(error(at, "a control character would break lines"));
            }
            _ => {
                quoted ^= character == '"';
                literal.push(character);
            }
        }
    }
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal.into_bytes().into()));
    }
    Ok(segments)
}

fn error(at: usize, message: impl Into<String>) -> FormatError {
    FormatError { at, message: message.into() }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        Parser { text, at: 0 }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.text[self.at..].chars().next()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.text[self.at..].starts_with(expected);
        self.at += if found { expected.len_utf8() } else { 0 };
        found
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.find(|character| !belongs(character)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// An operator, from behind its first percent sign to behind its last, and how long its value
    /// may be.
    fn operator(&mut self) -> Result<(Operator, Option<usize>), FormatError> {
        let start = self.at.saturating_sub(1);
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let argument = match self.take('(') {
            true => {
                let argument = self.take_while(|c| c != ')');
                if !self.take(')') {
                    return Err(error(start, format!("`{name}(` is not closed")));
                }
                Some(argument)
            }
            false => None,
        };
        let longest = match self.take(':') {
            true => match self.take_while(|c| c.is_ascii_digit()).parse() {
                Ok(longest) => Some(longest),
                Err(_) => return Err(error(self.at, "a number of bytes must follow the colon")),
            },
            false => None,
        };
        if !self.take('%') {
            let message = format!("`%{name}` has no `%` behind it; a percent sign is `%%`");
            return Err(error(start, message));
        }
        let operator = match (name, argument) {
            ("REQ", Some(names)) => Operator::Request(lookup(names, start, Name::in_request)?),
            ("RESP", Some(names)) => Operator::Response(lookup(names, start, Name::in_response)?),
            ("REQ" | "RESP", None) => {
                return Err(error(
                    start,
                    format!("`{name}` needs the name of a field: `{name}(…)`"),
                ));
            }
            (_, None) => Operator::named(name)
                .ok_or_else(|| error(start, format!("there is no operator `{name}`")))?,
            (_, Some(_)) => {
                return Err(error(start, format!("`{name}` with arguments is not known")));
            }
        };
        Ok((operator, longest))
    }
}

fn lookup(
    names: &str,
    at: usize,
    name: impl Fn(&str) -> Option<Name>,
) -> Result<Lookup, FormatError> {
    let parse = |text: &str| {
        name(text).ok_or_else(|| error(at, format!("`{text}` is not the name of a field")))
    };
    let (first, otherwise) = match names.split_once('?') {
        Some((first, otherwise)) => (first, Some(otherwise)),
        None => (names, None),
    };
    Ok(Lookup { first: parse(first)?, otherwise: otherwise.map(parse).transpose()? })
}
