//! Reads one section of the file. In: a parsed table and the keys that it may have. Out: typed
//! values, and a finding for each key that is not known here and each value that does not fit. Never
//! stops at the first finding.

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    keys::{Keys, ROOT, SECTIONS},
    nearest::nearest,
    problem::{Findings, Span},
    value::kind,
};

#[derive(Debug, Clone)]
pub(super) struct Section<'d> {
    keys: &'static Keys,
    table: &'d DeTable<'d>,
    /// Where the section begins: its header, or the braces of an inline table.
    span: Span,
}

impl<'d> Section<'d> {
    /// Takes a table for a section and reports each key that has no place in it.
    pub(super) fn open(
        keys: &'static Keys,
        table: &'d DeTable<'d>,
        span: Span,
        findings: &mut Findings,
    ) -> Self {
        for key in table.keys().filter(|key| !keys.built.contains(&&**key.get_ref())) {
            let word = key.get_ref();
            let message = match keys.later(word) {
                Some(feature) => feature.missing_for(format_args!("`{word}`")),
                None => unknown_key(word, keys),
            };
            findings.error(key.span(), message);
        }
        Self { keys, table, span }
    }

    /// Whether the key is written, be its value right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        debug_assert!(self.keys.built.contains(&key), "`{key}` is missing from {:?}", self.keys);
        self.table.contains_key(key)
    }

    /// Where the value of a key is written; the section itself if it is not.
    pub(super) fn at(&self, key: &str) -> Span {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Where a key itself is written; the section if it is not.
    pub(super) fn key_at(&self, key: &str) -> Span {
        self.table.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// Where the section begins.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The value of a key, read by `parse`. `None` if it is not written or does not fit; the latter is
    /// a finding at the value.
    pub(super) fn read<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        parse: impl FnOnce(&DeValue<'d>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            return None;
        }
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(value) => Some(value),
            Err(why) => {
                findings.error(value.span(), format!("`{key}`: {why}"));
                None
            }
        }
    }

    /// The elements of an array; a finding if the key holds anything else.
    pub(super) fn array(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> impl Iterator<Item = &'d Spanned<DeValue<'d>>> + use<'d> {
        let array = match self.raw(key) {
            Some((_, DeValue::Array(array))) => Some(array),
            Some((at, other)) => {
                findings.error(at, format!("`{key}`: expected an array, found {}", kind(other)));
                None
            }
            None => None,
        };
        array.into_iter().flat_map(|array| array.iter())
    }

    /// Where an array has this string among its elements.
    pub(super) fn element(&self, key: &str, text: &str) -> Option<Span> {
        let Some((_, DeValue::Array(array))) = self.raw(key) else { return None };
        let is_it = |element: &&Spanned<DeValue<'_>>| matches!(element.get_ref(), DeValue::String(written) if written == text);
        array.iter().find(is_it).map(Spanned::span)
    }

    /// Whether a key holds an array with nothing in it.
    pub(super) fn is_empty_array(&self, key: &str) -> bool {
        matches!(self.raw(key), Some((_, DeValue::Array(array))) if array.is_empty())
    }

    /// Whether a key holds a table.
    pub(super) fn holds_table(&self, key: &str) -> bool {
        matches!(self.raw(key), Some((_, DeValue::Table(_))))
    }

    /// The section under a key, as `[key]` or `key = { … }` makes it.
    pub(super) fn table(
        &self,
        key: &str,
        keys: &'static Keys,
        findings: &mut Findings,
    ) -> Option<Section<'d>> {
        match self.raw(key)? {
            (at, DeValue::Table(table)) => Some(Section::open(keys, table, at, findings)),
            (at, other) => {
                let message = format!(
                    "`{key}` is one section: write `{}` (found {})",
                    keys.section,
                    kind(other)
                );
                findings.error(at, message);
                None
            }
        }
    }

    /// The section under a key that may hold something simpler as well; `None` where it does.
    pub(super) fn inline(
        &self,
        key: &str,
        keys: &'static Keys,
        findings: &mut Findings,
    ) -> Option<Section<'d>> {
        match self.raw(key)? {
            (at, DeValue::Table(table)) => Some(Section::open(keys, table, at, findings)),
            _ => None,
        }
    }

    /// The sections under a key, as repeated `[[key]]` make them.
    pub(super) fn tables(
        &self,
        key: &str,
        keys: &'static Keys,
        findings: &mut Findings,
    ) -> Vec<Section<'d>> {
        let wrong = |other: &DeValue<'_>| {
            format!("each `{key}` is a section: write `{}` (found {})", keys.section, kind(other))
        };
        let mut sections = Vec::new();
        match self.raw(key) {
            None => {}
            Some((_, DeValue::Array(array))) => {
                for element in array.iter() {
                    match element.get_ref() {
                        DeValue::Table(table) => {
                            sections.push(Section::open(keys, table, element.span(), findings));
                        }
                        other => findings.error(element.span(), wrong(other)),
                    }
                }
            }
            Some((at, other)) => findings.error(at, wrong(other)),
        }
        sections
    }

    /// The entries of a table with keys of any kind; a finding if the key holds anything else.
    pub(super) fn entries(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> impl Iterator<Item = (&'d str, &'d Spanned<DeValue<'d>>)> + use<'d> {
        let table = match self.raw(key) {
            Some((_, DeValue::Table(table))) => Some(table),
            Some((at, other)) => {
                let message = format!(
                    "`{key}`: expected a table such as {{ name = \"value\" }}, found {}",
                    kind(other)
                );
                findings.error(at, message);
                None
            }
            None => None,
        };
        let entry = |(key, value): (&'d Spanned<_>, &'d Spanned<_>)| (key_text(key), value);
        table.into_iter().flat_map(move |table| table.iter().map(entry))
    }

    fn raw(&self, key: &str) -> Option<(Span, &'d DeValue<'d>)> {
        if !self.has(key) {
            return None;
        }
        self.table.get(key).map(|value| (value.span(), value.get_ref()))
    }
}

fn key_text<'d>(key: &'d Spanned<DeString<'d>>) -> &'d str {
    key.get_ref()
}

/// Names the section where a misplaced key belongs, else the nearest key here, else all keys.
fn unknown_key(word: &str, here: &Keys) -> String {
    let place = if here.section.is_empty() { "at the top level" } else { "in" };
    let mut message = format!("unknown key `{word}` {place} {}", here.section);
    message.truncate(message.trim_end().len());
    let elsewhere = SECTIONS.iter().find(|keys| {
        !keys.section.is_empty() && keys.built.contains(&word) && !std::ptr::eq(**keys, here)
    });
    if let Some(keys) = elsewhere {
        message.push_str(&format!("; it belongs in {}", keys.section));
    } else if ROOT.built.contains(&word) {
        message.push_str("; it belongs at the top, before the first section");
    } else if let Some(near) = nearest(word, here.all()) {
        message.push_str(&format!("; did you mean `{near}`?"));
    } else {
        let known: Vec<_> = here.built.iter().map(|key| format!("`{key}`")).collect();
        message.push_str(&format!("; known here: {}", known.join(", ")));
    }
    message
}
