//! What a running sidecar cannot change. In: two configurations. Out: the keys in which they differ and
//! must not: what threads and rings are made of, and the admin server, by which the change may well
//! have been asked for. All else can change.

use std::fmt;

use serde::Serialize;

use super::schema::{Balance, Config, Shards};

/// A key that differs and can only change with a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) key: &'static str,
    /// Both values as the file has them.
    running: String,
    wanted: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, running, wanted } = self;
        write!(
            f,
            "`{key}` cannot change by a reload (from {running} to {wanted}): restart the sidecar"
        )
    }
}

/// Why `new` cannot take the place of `old` in a running sidecar; empty if it can.
pub(crate) fn reload_refusals(old: &Config, new: &Config) -> Vec<Refusal> {
    let count = |config: &Config| match &config.shards {
        Shards::Count(count) => Some(*count),
        Shards::Cpus(_) => None,
    };
    let cpus = |config: &Config| match &config.shards {
        Shards::Count(_) => None,
        Shards::Cpus(list) => Some(list.clone()),
    };
    // The policies are made anew; the kernel needs a socket for each shard.
    let by_kernel = |config: &Config| config.balance == Balance::Kernel;
    let balance = (by_kernel(old) != by_kernel(new))
        .then(|| difference("balance", old.balance, new.balance))
        .flatten();
    let differences = [
        difference("shards", count(old), count(new)),
        difference("cpus", cpus(old), cpus(new)),
        difference("pin", old.pin, new.pin),
        difference("acceptors", old.acceptors, new.acceptors),
        difference("driver", old.driver, new.driver),
        balance,
        difference("admin", old.admin, new.admin),
    ];
    differences.into_iter().flatten().collect()
}

fn difference<T: Serialize + PartialEq>(key: &'static str, old: T, new: T) -> Option<Refusal> {
    let written = |value: &T| match serde_json::to_string(value).as_deref() {
        Ok("null") | Err(_) => "nothing".to_owned(),
        Ok(written) => written.to_owned(),
    };
    (old != new).then(|| Refusal { key, running: written(&old), wanted: written(&new) })
}
