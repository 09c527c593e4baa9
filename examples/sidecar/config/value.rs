//! Reads single values. In: one TOML value. Out: a typed value, or what is wrong with it, without the
//! key and the place (the section adds those). Knows nothing of other keys.

use std::{num::NonZeroUsize, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::nearest::did_you_mean;

/// The longest duration that can be written: far beyond any use, and far from where adding it to a
/// point in time would overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// One of a few words, such as `pin = "auto"`.
pub(crate) trait Choice: Copy + 'static {
    /// The words and what they stand for.
    const ALL: &'static [(&'static str, Self)];
}

/// Declares an enum whose variants are written as words in the configuration.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        enum $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
        pub(crate) enum $name { $( $(#[$variant_doc])* #[serde(rename = $word)] $variant, )+ }

        impl $crate::config::value::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[ $( ($word, Self::$variant), )+ ];
        }
    };
}
pub(super) use choice;

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A string; `example` shows what one looks like where something else is found.
pub(super) fn text<'v>(value: &'v DeValue<'_>, example: &str) -> Result<&'v str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(format!("expected a string such as \"{example}\", found {}", kind(other))),
    }
}

/// A whole number within bounds.
pub(super) fn number(value: &DeValue<'_>, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let wrong = |found: &str| {
        format!(
            "expected a whole number from {} to {}, found {found}",
            bounds.start(),
            bounds.end()
        )
    };
    let DeValue::Integer(integer) = value else {
        return Err(wrong(kind(value)));
    };
    let digits = integer.as_str();
    match u64::from_str_radix(digits.trim_start_matches('+'), integer.radix()) {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(wrong(digits)),
    }
}

/// A whole number that indexes or counts things in memory.
pub(super) fn size(value: &DeValue<'_>, bounds: RangeInclusive<u32>) -> Result<usize, String> {
    let number = number(value, u64::from(*bounds.start())..=u64::from(*bounds.end()))?;
    usize::try_from(number).map_err(|_| format!("{number} is too large for this machine"))
}

/// A limit; 0 is none.
pub(super) fn limit(value: &DeValue<'_>) -> Result<Option<NonZeroUsize>, String> {
    size(value, 0..=u32::MAX).map(NonZeroUsize::new)
}

/// A whole number that a `u32` holds.
pub(super) fn count(value: &DeValue<'_>, bounds: RangeInclusive<u32>) -> Result<u32, String> {
    let number = number(value, u64::from(*bounds.start())..=u64::from(*bounds.end()))?;
    u32::try_from(number).map_err(|_| format!("{number} is too large"))
}

/// A number that need not be whole; `example` shows what one looks like where something else is found.
pub(super) fn fraction(value: &DeValue<'_>, example: &str) -> Result<f64, String> {
    let digits = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        other => return Err(format!("expected a number such as {example}, found {}", kind(other))),
    };
    digits.parse().map_err(|_| format!("expected a number such as {example}, found {digits}"))
}

/// `true` or `false`.
pub(super) fn yes_or_no(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(format!("expected true or false, found {}", kind(other))),
    }
}

/// One of the words of `C`.
pub(super) fn choice_of<C: Choice>(value: &DeValue<'_>) -> Result<C, String> {
    let words = || C::ALL.iter().map(|(word, _)| *word);
    let word = text(value, C::ALL.first().map_or("", |(word, _)| word))?;
    C::ALL.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice).ok_or_else(|| {
        let known: Vec<_> = words().map(|word| format!("\"{word}\"")).collect();
        format!("\"{word}\" is not one of {}{}", known.join(", "), did_you_mean(word, words()))
    })
}

/// A duration that has to end, such as `"5s"`, `"1h30m"`. Zero is allowed; `"off"` is not.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    let text = text(value, "5s")?;
    if text == "off" {
        return Err("cannot be off: write how long, at most \"8760h\"".into());
    }
    parse_duration(text)
}

/// A duration of which zero would make everything fail.
pub(super) fn positive_duration(value: &DeValue<'_>) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("has to be longer than zero".into()),
        duration => Ok(duration),
    }
}

/// A duration, or `"off"` for none.
pub(super) fn timeout(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    let text = text(value, "5s")?;
    if text == "off" {
        return Ok(None);
    }
    match parse_duration(text)? {
        Duration::ZERO => {
            Err("zero would close every connection at once: write \"off\" for no timeout".into())
        }
        duration => Ok(Some(duration)),
    }
}

/// Numbers with units, largest first by custom but in any order: `500ms`, `5s`, `10m`, `1h`, `1h30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is not a duration: write a number and ms, s, m or h, as in \"5s\"");
    let too_long = || format!("\"{text}\" is too long: at most \"8760h\" (one year)");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            _ => return Err(wrong()),
        };
        if number.is_empty() {
            return Err(wrong());
        }
        let part_ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
        total = part_ms
            .map(Duration::from_millis)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(too_long)?;
        rest = tail;
    }
    Ok(total)
}

/// Writes a duration as the configuration does, with the largest unit that holds it exactly.
pub(super) fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".into(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// A size in bytes, such as `"64KiB"`.
pub(super) fn bytes(value: &DeValue<'_>, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let text = text(value, "64KiB")?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    if number.is_empty() || unit == 0 {
        return Err(format!(
            "\"{text}\" is not a size: write a number and B, KiB, MiB or GiB, as in \"64KiB\""
        ));
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(|| {
        let (least, most) = (format_bytes(*bounds.start()), format_bytes(*bounds.end()));
        format!("\"{text}\" is out of range: {least} to {most}")
    })
}

/// Writes a size as the configuration does, with the largest unit that holds it exactly.
pub(super) fn format_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0B".into(),
        bytes if bytes % (1 << 30) == 0 => format!("{}GiB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

/// A name of a listener or cluster. It becomes a label value in the metrics and a word in log lines,
/// so it is short and needs no quoting there.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    const LONGEST_NAME: usize = 255;
    let name = text(value, "reviews")?;
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(format!("a name has 1 to {LONGEST_NAME} characters, this has {}", name.len()));
    }
    match name.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '\\' | '`')) {
        None => Ok(name.to_owned()),
        Some(bad) => Err(format!(
            "a name is made of visible ASCII characters without quotes and backslashes, not {bad:?}"
        )),
    }
}
