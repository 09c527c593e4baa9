//! The command line of `sidecar iptables`.
//!
//! In: words. Out: [`Arguments`], or a [`UsageError`] that names the option, the value and what
//! would have been right. Nothing is read but the words.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

use lexopt::{Arg, Parser, ValueExt};

use super::settings::{self, InboundMode, InboundPorts, Settings};

pub(super) const HELP: &str = "\
sidecar iptables: hand this network namespace's TCP traffic to the sidecar

usage: sidecar iptables print|apply|remove [OPTION]...

  print    show the commands, as a shell script; needs no privileges
  apply    make the rules, all or none; again with other options to change them
  remove   take away all that apply has made; needs no options

  --outbound-port PORT            where outbound connections land (15001)
  --inbound-port PORT             where inbound connections land (15006)
  --uid ID                        the sidecar's user: its connections pass (1337)
  --gid ID                        the sidecar's group: its connections pass (1337)
  --mark MARK                     the sidecar's SO_MARK: its packets pass (1337)
  --inbound-ports PORTS           inbound ports to capture, `*` or `none` (*)
  --exclude-inbound-ports PORTS   inbound ports to leave alone
  --exclude-outbound-ports PORTS  destination ports to leave alone
  --exclude-outbound-cidrs NETS   destination networks to leave alone, IPv4 and IPv6
  --inbound-mode redirect|tproxy  how inbound connections are captured (redirect)

Lists are separated by commas; an option with a list may be repeated.
";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Print,
    Apply,
    Remove,
    Help,
}

/// The whole command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) action: Action,
    pub(super) settings: Settings,
}

/// A command line that means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UsageError {
    /// Neither print, apply nor remove.
    NoAction,
    /// Not understood at all; the text is the parser's.
    Parse(String),
    /// An option's value that cannot be.
    Value { option: String, value: String, problem: &'static str },
    /// An option that has one value has been given several.
    Repeated { option: String },
    /// Values that cannot be together.
    Conflict(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAction => f.write_str("one of print, apply, remove is needed"),
            Self::Parse(text) => f.write_str(text),
            Self::Value { option, value, problem } => write!(f, "--{option}: {value:?} {problem}"),
            Self::Repeated { option } => write!(f, "--{option} is given twice"),
            Self::Conflict(text) => f.write_str(text),
        }?;
        f.write_str(" (see `sidecar iptables --help`)")
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self::Parse(error.to_string())
    }
}

impl Arguments {
    /// Understands the words behind `sidecar iptables`.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut parser = Parser::from_args(words);
        let (mut action, mut options) = (None, Options::default());
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => {
                    return Ok(Self { action: Action::Help, settings: Settings::default() });
                }
                Arg::Long(name) => {
                    let name = name.to_owned();
                    options.take(&name, &mut parser)?;
                }
                Arg::Value(word) if action.is_none() => {
                    action = Some(match word.to_str() {
                        Some("print") => Action::Print,
                        Some("apply") => Action::Apply,
                        Some("remove") => Action::Remove,
                        _ => return Err(UsageError::NoAction),
                    });
                }
                _ => return Err(argument.unexpected().into()),
            }
        }
        let action = action.ok_or(UsageError::NoAction)?;
        Ok(Self { action, settings: options.checked()? })
    }
}

/// The settings as far as they have been given.
#[derive(Default)]
struct Options {
    settings: Settings,
    inbound_ports: Option<InboundPorts>,
    seen: BTreeSet<String>,
}

impl Options {
    /// Takes the option `name` and its value.
    fn take(&mut self, name: &str, parser: &mut Parser) -> Result<(), UsageError> {
        let settings = &mut self.settings;
        match name {
            "exclude-inbound-ports" => {
                settings.exclude_inbound_ports.extend(values(name, parser, settings::port)?);
            }
            "exclude-outbound-ports" => {
                settings.exclude_outbound_ports.extend(values(name, parser, settings::port)?);
            }
            "exclude-outbound-cidrs" => {
                settings.exclude_outbound_cidrs.extend(values(name, parser, settings::network)?);
            }
            "inbound-ports" => {
                for ports in values(name, parser, settings::inbound_ports)? {
                    self.add_inbound_ports(ports)?;
                }
            }
            _ if !self.seen.insert(name.to_owned()) => {
                return Err(UsageError::Repeated { option: name.to_owned() });
            }
            "outbound-port" => settings.outbound_port = value(name, parser, settings::port)?,
            "inbound-port" => settings.inbound_port = value(name, parser, settings::port)?,
            "uid" => settings.uid = value(name, parser, settings::id)?,
            "gid" => settings.gid = value(name, parser, settings::id)?,
            "mark" => settings.mark = value(name, parser, settings::mark)?,
            "inbound-mode" => settings.inbound_mode = value(name, parser, settings::inbound_mode)?,
            _ => return Err(Arg::Long(name).unexpected().into()),
        }
        Ok(())
    }

    /// Adds to the inbound ports; `*` and `none` stand alone.
    fn add_inbound_ports(&mut self, added: InboundPorts) -> Result<(), UsageError> {
        self.inbound_ports = Some(match (self.inbound_ports.take(), added) {
            (None, added) => added,
            (Some(InboundPorts::Only(so_far)), InboundPorts::Only(added))
                if !so_far.is_empty() && !added.is_empty() =>
            {
                InboundPorts::Only(&so_far | &added)
            }
            _ => {
                return Err(UsageError::Conflict("--inbound-ports: `*` and `none` stand alone"));
            }
        });
        Ok(())
    }

    /// The settings, if they can be together.
    fn checked(self) -> Result<Settings, UsageError> {
        let mut settings = self.settings;
        if let Some(ports) = self.inbound_ports {
            settings.inbound_ports = ports;
        }
        if settings.outbound_port == settings.inbound_port {
            return Err(UsageError::Conflict("--outbound-port and --inbound-port are the same"));
        }
        let reserved = [settings::DIVERT_MARK, settings::SELF_CALL_MARK];
        if settings.inbound_mode == InboundMode::Tproxy && reserved.contains(&settings.mark.get()) {
            return Err(UsageError::Conflict(
                "--mark: 133 and 1338 are taken by the rules of --inbound-mode tproxy",
            ));
        }
        Ok(settings)
    }
}

/// The next word, as text.
fn word(parser: &mut Parser) -> Result<String, UsageError> {
    Ok(parser.value()?.string()?)
}

/// The one value of `option`.
fn value<T>(
    option: &str,
    parser: &mut Parser,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Result<T, UsageError> {
    understood(option, &word(parser)?, parse)
}

/// The values of `option`, separated by commas; at least one.
fn values<T>(
    option: &str,
    parser: &mut Parser,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, UsageError> {
    word(parser)?.split(',').map(|value| understood(option, value.trim(), parse)).collect()
}

fn understood<T>(
    option: &str,
    value: &str,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Result<T, UsageError> {
    parse(value).map_err(|problem| UsageError::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        problem,
    })
}
