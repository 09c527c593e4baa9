//! How a configuration is written back: the same keys, units and words as in a file. In: values. Out:
//! what serde makes TOML or JSON of. Whatever is written here reads back as the same value.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{
    schema::{Destination, Listener, Routing},
    value::{format_bytes, format_duration},
};

/// Accepting listeners and destinations as the file has them: side by side, joined by `via`.
pub(super) fn listener_tables<S: Serializer>(
    listeners: &[Listener],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Via<'l> {
        via: &'l str,
        #[serde(flatten)]
        destination: &'l Destination,
    }
    let mut tables = serializer.serialize_seq(None)?;
    for listener in listeners {
        tables.serialize_element(listener)?;
        if let Routing::OriginalDestination(interception) = &listener.routing {
            for destination in &interception.destinations {
                tables.serialize_element(&Via { via: &listener.name, destination })?;
            }
        }
    }
    tables.end()
}

pub(super) fn zero_for_none<S: Serializer>(
    limit: &Option<NonZeroUsize>,
    s: S,
) -> Result<S::Ok, S::Error> {
    limit.map_or(0, NonZeroUsize::get).serialize(s)
}

pub(super) fn no_mark_is_zero<S: Serializer>(
    mark: &Option<NonZeroU32>,
    s: S,
) -> Result<S::Ok, S::Error> {
    mark.map_or(0, NonZeroU32::get).serialize(s)
}

pub(super) fn in_words<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format_duration(*duration))
}

pub(super) fn in_words_or_off<S: Serializer>(
    duration: &Option<Duration>,
    s: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => in_words(duration, s),
        None => s.serialize_str("off"),
    }
}

/// A duration that a field with `skip_serializing_if` leaves out where there is none.
pub(super) fn in_words_if_any<S: Serializer>(
    duration: &Option<Duration>,
    s: S,
) -> Result<S::Ok, S::Error> {
    in_words_or_off(duration, s)
}

/// The same for one that may be off.
pub(super) fn in_words_or_off_if_any<S: Serializer>(
    duration: &Option<Option<Duration>>,
    s: S,
) -> Result<S::Ok, S::Error> {
    in_words_or_off(&duration.flatten(), s)
}

pub(super) fn bytes<S: Serializer>(bytes: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format_bytes(*bytes))
}

pub(super) fn bytes_or_off<S: Serializer>(bytes: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => self::bytes(bytes, s),
        None => s.serialize_str("off"),
    }
}

pub(super) fn text_or_off<S: Serializer>(text: &Option<String>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(text.as_deref().unwrap_or("off"))
}
