//! A `[[listener]]` as it was written.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    time::Duration,
};

use toml::de::DeValue;

use super::{
    super::{
        address::{Bind, Pattern, Source},
        keys,
        problem::Findings,
        schema::{
            AccessLogFormat, Direction, Fallback, HttpOptions, ListenerMode, LogSink, LoggedOnly,
            Lookup, Protocol, ProxyHeaderIn, Target,
        },
        section::Section,
        value::{
            bytes, choice, choice_of, fraction, limit, name, positive_duration, size, text,
            timeout, yes_or_no,
        },
    },
    mark, source,
    tls::TlsDraft,
};

/// A `[[listener]]` of either kind: which one it is, is for the checks to say.
pub(in super::super) struct ListenerDraft<'d> {
    pub(in super::super) section: Section<'d>,
    pub(in super::super) name: Option<String>,
    pub(in super::super) bind: Option<Bind>,
    pub(in super::super) pattern: Option<Pattern>,
    pub(in super::super) via: Option<String>,
    pub(in super::super) direction: Option<Direction>,
    pub(in super::super) original_dst: Option<OriginalDst>,
    pub(in super::super) fallback: Option<Fallback>,
    pub(in super::super) cluster: Option<Target>,
    pub(in super::super) source: Option<Source>,
    pub(in super::super) mark: Option<Option<NonZeroU32>>,
    pub(in super::super) max_connections: Option<NonZeroUsize>,
    pub(in super::super) proxy_protocol: Option<ProxyHeaderIn>,
    pub(in super::super) protocol: Option<Protocol>,
    pub(in super::super) access_log: Option<LogSink>,
    pub(in super::super) access_log_format: Option<AccessLogFormat>,
    pub(in super::super) access_log_sample: Option<f64>,
    pub(in super::super) access_log_only: Option<LoggedOnly>,
    pub(in super::super) timeouts: TimeoutsDraft<'d>,
    /// The section, and what it says with all else at its default.
    pub(in super::super) http: Option<(Section<'d>, HttpOptions)>,
    pub(in super::super) tls: Option<TlsDraft<'d, ListenerMode>>,
}

choice! {
    /// What `original_dst` can be.
    enum OriginalDst {
        None = "none",
        Redirect = "redirect",
        Tproxy = "tproxy",
    }
}

/// `[listener.timeouts]`; what is not written is `None`.
#[derive(Default)]
pub(in super::super) struct TimeoutsDraft<'d> {
    pub(in super::super) section: Option<Section<'d>>,
    pub(in super::super) idle: Option<Option<Duration>>,
    pub(in super::super) half_close: Option<Option<Duration>>,
    pub(in super::super) head: Option<Option<Duration>>,
    pub(in super::super) request: Option<Option<Duration>>,
    pub(in super::super) stream_idle: Option<Option<Duration>>,
    pub(in super::super) max_age: Option<Option<Duration>>,
    pub(in super::super) detect: Option<Duration>,
    pub(in super::super) handshake: Option<Duration>,
}

impl<'d> TimeoutsDraft<'d> {
    fn read(listener: &Section<'d>, findings: &mut Findings) -> Self {
        let Some(section) = listener.table("timeouts", &keys::LISTENER_TIMEOUTS, findings) else {
            return Self::default();
        };
        Self {
            idle: section.read("idle", findings, timeout),
            half_close: section.read("half_close", findings, timeout),
            head: section.read("head", findings, timeout),
            request: section.read("request", findings, timeout),
            stream_idle: section.read("stream_idle", findings, timeout),
            max_age: section.read("max_age", findings, timeout),
            detect: section.read("detect", findings, positive_duration),
            handshake: section.read("handshake", findings, positive_duration),
            section: Some(section),
        }
    }
}

impl<'d> ListenerDraft<'d> {
    pub(super) fn read(section: Section<'d>, directory: &Path, findings: &mut Findings) -> Self {
        Self {
            name: section.read("name", findings, name),
            bind: section.read("bind", findings, |value| {
                Bind::parse(text(value, "127.0.0.1:15001")?, directory)
            }),
            pattern: section
                .read("match", findings, |value| Pattern::parse(text(value, "10.0.0.7:9080")?)),
            via: section.read("via", findings, |value| Ok(text(value, "outbound")?.to_owned())),
            direction: section.read("direction", findings, choice_of),
            original_dst: section.read("original_dst", findings, choice_of),
            fallback: section.read("fallback", findings, choice_of),
            cluster: section
                .read("cluster", findings, |value| name(value).map(|n| Target::named(&n))),
            source: section.read("source", findings, source),
            mark: section.read("mark", findings, mark),
            max_connections: section.read("max_connections", findings, limit).flatten(),
            proxy_protocol: section.read("proxy_protocol", findings, choice_of),
            protocol: section.read("protocol", findings, choice_of),
            access_log: section.read("access_log", findings, |value| log_sink(value, directory)),
            access_log_format: section.read("access_log_format", findings, choice_of),
            access_log_sample: section.read("access_log_sample", findings, share),
            access_log_only: logged_only(&section, findings),
            timeouts: TimeoutsDraft::read(&section, findings),
            http: section
                .table("http", &keys::LISTENER_HTTP, findings)
                .map(|section| (section.clone(), http_options(&section, findings))),
            tls: TlsDraft::read(&section, &keys::LISTENER_TLS, directory, findings),
            section,
        }
    }

    /// Whether its routes are for server names.
    pub(in super::super) fn passes_tls_through(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mode == Some(ListenerMode::Passthrough))
    }

    /// How the original destination is found, if it is asked for.
    pub(in super::super) fn lookup(&self) -> Option<Lookup> {
        match self.original_dst? {
            OriginalDst::None => None,
            OriginalDst::Redirect => Some(Lookup::Redirect),
            OriginalDst::Tproxy => Some(Lookup::Tproxy),
        }
    }
}

fn http_options(section: &Section<'_>, findings: &mut Findings) -> HttpOptions {
    let default = HttpOptions::default();
    let max_head = |value: &DeValue<'_>| bytes(value, 1 << 10..=8 << 20);
    let max_body = |value: &DeValue<'_>| match value {
        DeValue::String(word) if word == "off" => Ok(None),
        value => bytes(value, 0..=u64::MAX).map(Some),
    };
    HttpOptions {
        max_head: section.read("max_head", findings, max_head).unwrap_or(default.max_head),
        max_fields: section
            .read("max_fields", findings, |value| size(value, 1..=256))
            .unwrap_or(default.max_fields),
        max_body: section.read("max_body", findings, max_body).unwrap_or(default.max_body),
        forwarded: section.read("forwarded", findings, choice_of).unwrap_or(default.forwarded),
        via: section.read("via", findings, via).unwrap_or(default.via),
        paths: section.read("paths", findings, choice_of).unwrap_or(default.paths),
        connect: section.read("connect", findings, yes_or_no).unwrap_or(default.connect),
    }
}

/// A pseudonym as RFC 9110 section 7.6.3 has it, or `"off"`.
fn via(value: &DeValue<'_>) -> Result<Option<String>, String> {
    let text = text(value, "sidecar")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text {
        "off" => Ok(None),
        text if !text.is_empty() && text.bytes().all(fits) => Ok(Some(text.to_owned())),
        text => Err(format!(
            "\"{text}\" is not a name for `Via`: write letters, digits and hyphens, or \"off\""
        )),
    }
}

/// The share of what would be logged that is.
fn share(value: &DeValue<'_>) -> Result<f64, String> {
    match fraction(value, "0.1")? {
        share if share > 0.0 && share <= 1.0 => Ok(share),
        0.0 => Err("0 would log nothing: write `access_log = \"off\"`".into()),
        share => Err(format!("{share} is no share: write more than 0 and at most 1")),
    }
}

fn logged_only(listener: &Section<'_>, findings: &mut Findings) -> Option<LoggedOnly> {
    let section = listener.table("access_log_only", &keys::ACCESS_LOG_ONLY, findings)?;
    let errors = section.read("errors", findings, yes_or_no);
    let slower_than = section.read("slower_than", findings, positive_duration);
    let wants_no_errors = errors == Some(false) || !section.has("errors");
    if wants_no_errors && !section.has("slower_than") {
        findings.error(
            section.span(),
            "`access_log_only` leaves nothing to log: write `errors = true`, a `slower_than`, or \
             both",
        );
    }
    Some(LoggedOnly { errors: errors.unwrap_or(false), slower_than })
}

fn log_sink(value: &DeValue<'_>, directory: &Path) -> Result<LogSink, String> {
    match text(value, "stdout")? {
        LogSink::OFF => Ok(LogSink::Off),
        LogSink::STDOUT => Ok(LogSink::Stdout),
        "" => Err("is empty: write \"off\", \"stdout\" or a path".into()),
        path if path.contains('\0') => Err("a path cannot contain a zero byte".into()),
        path => Ok(LogSink::File(directory.join(path))),
    }
}
