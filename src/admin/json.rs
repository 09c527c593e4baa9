//! JSON as a value that prints itself.
//!
//! The admin writes a few fixed shapes and reads none, so this does without a serializer among the
//! dependencies of every embedder; the tests read the output back with one.

use std::fmt::{self, Write as _};

/// A JSON value. Keys are the crate's own names and need no escaping.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Integer(i128),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    pub(super) fn integer(value: impl TryInto<i128>) -> Self {
        value.try_into().map_or(Self::Null, Self::Integer)
    }

    /// The value, or null.
    pub(super) fn optional<T>(value: Option<T>, json: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, json)
    }

    pub(super) fn array(values: impl IntoIterator<Item = Self>) -> Self {
        Self::Array(values.into_iter().collect())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) if value.is_finite() => write!(f, "{value}"),
            Self::Null | Self::Number(_) => f.write_str("null"),
            Self::String(value) => write_string(f, value),
            Self::Array(values) => {
                write_list(f, ('[', ']'), values, |f, value| write!(f, "{value}"))
            }
            Self::Object(fields) => {
                write_list(f, ('{', '}'), fields, |f, (key, value)| write!(f, "\"{key}\":{value}"))
            }
        }
    }
}

fn write_list<T>(
    f: &mut fmt::Formatter<'_>,
    (open, close): (char, char),
    items: &[T],
    write_item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_char(open)?;
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            f.write_char(',')?;
        }
        write_item(f, item)?;
    }
    f.write_char(close)
}

/// RFC 8259 section 7: quote, backslash and everything below U+0020 must be escaped.
fn write_string(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_string_and_number_comes_back(text in any::<String>(), number in any::<f64>(), integer in any::<i64>()) {
            let json = Json::Object(vec![
                ("text", Json::String(text.clone())),
                ("numbers", Json::array([Json::Number(number), Json::integer(integer)])),
            ]);
            let read: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
            prop_assert_eq!(read["text"].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["numbers"][1].as_i64(), Some(integer));
            match read["numbers"][0].as_f64() {
                Some(read) => prop_assert!((read - number).abs() <= number.abs() * 1e-15 + f64::MIN_POSITIVE),
                None => prop_assert!(!number.is_finite()),
            }
        }
    }

    #[test]
    fn empty_and_missing_values() {
        assert_eq!(Json::Array(Vec::new()).to_string(), "[]");
        assert_eq!(Json::Object(Vec::new()).to_string(), "{}");
        assert_eq!(Json::Number(f64::NAN).to_string(), "null");
        assert_eq!(Json::optional(None, Json::String).to_string(), "null");
        assert_eq!(Json::String("\u{1}\"\\".to_owned()).to_string(), r#""\u0001\"\\""#);
    }
}
