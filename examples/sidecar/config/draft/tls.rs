//! `[listener.tls]` and `[cluster.tls]` as they were written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel::tls::{Peers, TrustDomain};
use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::super::{
    keys::Keys,
    problem::Findings,
    schema::Roots,
    section::Section,
    value::{Choice, choice_of, kind, text, timeout},
};

/// The section of either; which keys go with which mode, is for the checks to say.
pub(in super::super) struct TlsDraft<'d, M> {
    pub(in super::super) section: Section<'d>,
    pub(in super::super) mode: Option<M>,
    pub(in super::super) certificate: Option<PathBuf>,
    pub(in super::super) key: Option<PathBuf>,
    pub(in super::super) roots: Option<Roots>,
    pub(in super::super) peers: Option<Vec<String>>,
    pub(in super::super) crl: Option<PathBuf>,
    /// Of clusters.
    pub(in super::super) sni: Option<String>,
    pub(in super::super) alpn: Option<Vec<String>>,
    pub(in super::super) drain_after: Option<Option<Duration>>,
}

impl<'d, M: Choice> TlsDraft<'d, M> {
    pub(super) fn read(
        of: &Section<'d>,
        keys: &'static Keys,
        directory: &Path,
        findings: &mut Findings,
    ) -> Option<Self> {
        let section = of.table("tls", keys, findings)?;
        let file = |value: &DeValue<'_>| path(value, directory);
        let has_sni = keys.known.contains(&"sni");
        Some(Self {
            mode: section.read("mode", findings, choice_of),
            certificate: section.read("certificate", findings, file),
            key: section.read("key", findings, file),
            roots: roots(&section, directory, findings),
            peers: list(&section, "peers", findings, |entry| {
                Peers::parse([entry]).map(drop).map_err(|error| error.to_string())
            }),
            crl: section.read("crl", findings, file),
            sni: has_sni.then(|| section.read("sni", findings, server_name)).flatten(),
            alpn: list(&section, "alpn", findings, |protocol| match protocol.len() {
                1..=255 => Ok(()),
                length => Err(format!("a protocol has 1 to 255 bytes, not {length}")),
            }),
            drain_after: section.read("drain_after", findings, timeout),
            section,
        })
    }
}

fn roots(tls: &Section<'_>, directory: &Path, findings: &mut Findings) -> Option<Roots> {
    if !tls.holds_table("roots") {
        return tls.read("roots", findings, |value| match value {
            DeValue::String(_) => path(value, directory).map(Roots::Any),
            other => Err(format!(
                "expected a file such as \"ca.pem\", or {{ \"cluster.local\" = \"ca.pem\" }}, found {}",
                kind(other)
            )),
        });
    }
    let mut by_trust_domain = BTreeMap::new();
    let mut all_right = true;
    for (name, value) in tls.entries("roots", findings) {
        let read = name
            .parse::<TrustDomain>()
            .map_err(|error| error.to_string())
            .and_then(|_| path(value.get_ref(), directory));
        match read {
            Ok(path) => {
                by_trust_domain.insert(name.to_owned(), path);
            }
            Err(why) => {
                findings.error(value.span(), format!("`roots`: {why}"));
                all_right = false;
            }
        }
    }
    if by_trust_domain.is_empty() && all_right {
        findings
            .error(tls.at("roots"), "`roots`: no trust domain is named: name one, or write a file");
        all_right = false;
    }
    all_right.then_some(Roots::ByTrustDomain(by_trust_domain))
}

/// Strings of an array, each of which `check` takes. `None` if the key is not written, or one is wrong.
fn list(
    section: &Section<'_>,
    key: &str,
    findings: &mut Findings,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    if !section.has(key) {
        return None;
    }
    if section.is_empty_array(key) {
        findings.error(section.at(key), format!("`{key}` names none: name one, or leave it out"));
        return None;
    }
    let mut elements = Some(Vec::new());
    for element in section.array(key, findings) {
        let read = text(element.get_ref(), "").map_err(|_| "expected strings".to_owned());
        match read.and_then(|text| check(text).map(|()| text)) {
            Ok(text) => elements.iter_mut().for_each(|elements| elements.push(text.to_owned())),
            Err(why) => {
                findings.error(element.span(), format!("`{key}`: {why}"));
                elements = None;
            }
        }
    }
    elements.filter(|elements| !elements.is_empty())
}

fn path(value: &DeValue<'_>, directory: &Path) -> Result<PathBuf, String> {
    match text(value, "server.pem")? {
        "" => Err("is empty: write the path of a file".into()),
        path if path.contains('\0') => Err("a path cannot contain a zero byte".into()),
        path => Ok(directory.join(path)),
    }
}

fn server_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value, "localhost")?;
    match ServerName::try_from(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(format!("\"{name}\" is neither a DNS name nor an IP address")),
    }
}
