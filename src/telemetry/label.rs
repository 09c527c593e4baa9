//! The closed sets of label values, and counters indexed by them.
//!
//! Each set is an enum, so a count without a reason, or with one that no dashboard knows, cannot be
//! written. The texts are part of the crate's outside: renaming one breaks dashboards and alerts.

use std::marker::PhantomData;

use super::cell::Counter;

/// A closed set of values that a label may take.
pub trait LabelValue: Copy + 'static {
    /// Every value, in the order of [`LabelValue::index`].
    const ALL: &'static [Self];

    /// The place of the value in [`LabelValue::ALL`].
    fn index(self) -> usize;

    /// The text of the label.
    fn as_str(self) -> &'static str;
}

/// Makes an enum a closed set of label values.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl $name {
            /// How many values there are.
            pub const COUNT: usize = <Self as LabelValue>::ALL.len();

            /// The text of the label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl LabelValue for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(super) use label_values;

label_values! {
    /// Why a downstream connection that was served has ended.
    CloseReason {
        /// Both directions were finished in order.
        Done => "done",
        /// The client reset the connection.
        DownstreamReset => "downstream_reset",
        /// The upstream reset the connection.
        UpstreamReset => "upstream_reset",
        /// No upstream could be reached.
        UpstreamFailed => "upstream_failed",
        /// Nothing was sent in either direction for the idle timeout.
        IdleTimeout => "idle_timeout",
        /// One direction was finished and the other stayed silent for the half-close timeout.
        HalfCloseTimeout => "half_close_timeout",
        /// The deadline of a drain cut it.
        Drain => "drain",
        /// The client broke the protocol, a PROXY header for instance.
        Protocol => "protocol",
    }
}

label_values! {
    /// Why a downstream connection was closed before it was served.
    RejectReason {
        /// The proxy has as many connections as it may.
        Limit => "limit",
        /// Every shard that could have taken it has as many as it may.
        ShardLimit => "shard_limit",
        /// Its listener has as many as it may.
        ListenerLimit => "listener_limit",
        /// It was meant for the listener itself, which serves nothing of its own.
        Direct => "direct",
        /// The kernel knows no original destination, and the listener serves nothing of its own.
        Missing => "missing",
        /// Its upstream would have been one of this proxy's own listeners.
        Loop => "loop",
        /// No listener matched and the fallback is to refuse.
        Blackhole => "blackhole",
    }
}

label_values! {
    /// Why a connection to an upstream address could not be made.
    ConnectFailure {
        /// ECONNREFUSED.
        Refused => "refused",
        /// The connect timeout, or ETIMEDOUT.
        Timeout => "timeout",
        /// EHOSTUNREACH, ENETUNREACH and their kin.
        Unreachable => "unreachable",
        /// ECONNRESET while connecting.
        Reset => "reset",
        /// This host could not: no descriptor, port, memory or permission.
        Local => "local",
    }
}

label_values! {
    /// What the lookup of an original destination found.
    LookupResult {
        /// The kernel's answer differs from the socket's own address: a REDIRECT rule.
        Redirected => "redirected",
        /// The socket's own address is the destination: a TPROXY rule.
        Tproxy => "tproxy",
        /// The client connected to the listener itself.
        Direct => "direct",
        /// The kernel knows none.
        Missing => "missing",
        /// The destination is one of this proxy's own listeners.
        Loop => "loop",
    }
}

label_values! {
    /// What became of a request to reload the configuration.
    ReloadResult {
        /// The new configuration is in force.
        Accepted => "accepted",
        /// The old one stays.
        Refused => "refused",
    }
}

label_values! {
    /// The error number of an accept that failed; the errors of accept(2) that a listener on Linux
    /// can meet, the rest as `other`.
    AcceptError {
        /// This process has no descriptor left (RLIMIT_NOFILE).
        Emfile => "EMFILE",
        /// The system has no descriptor left (fs.file-max).
        Enfile => "ENFILE",
        /// No socket buffer memory.
        Enobufs => "ENOBUFS",
        /// No memory.
        Enomem => "ENOMEM",
        /// The client gave up while it was queued.
        Econnaborted => "ECONNABORTED",
        /// A firewall rule or security module refused it.
        Eperm => "EPERM",
        /// A protocol error of the new socket.
        Eproto => "EPROTO",
        /// The listening socket no longer listens.
        Einval => "EINVAL",
        /// Anything else.
        Other => "other",
    }
}

impl AcceptError {
    /// The label of an error number as accept(2) gives it.
    #[must_use]
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EMFILE => Self::Emfile,
            libc::ENFILE => Self::Enfile,
            libc::ENOBUFS => Self::Enobufs,
            libc::ENOMEM => Self::Enomem,
            libc::ECONNABORTED => Self::Econnaborted,
            libc::EPERM => Self::Eperm,
            libc::EPROTO => Self::Eproto,
            libc::EINVAL => Self::Einval,
            _ => Self::Other,
        }
    }
}

/// One [`Counter`] for each value of a label; `N` is the label's `COUNT`.
#[derive(Debug)]
pub struct CounterBy<L, const N: usize> {
    counters: [Counter; N],
    label: PhantomData<fn(L)>,
}

impl<L: LabelValue, const N: usize> CounterBy<L, N> {
    const COVERS_EVERY_VALUE: () = assert!(N == L::ALL.len());

    /// Counters at zero. `N` that is not the number of values does not compile.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::COVERS_EVERY_VALUE;
        Self { counters: [const { Counter::new() }; N], label: PhantomData }
    }

    /// Adds one to the count of `value`.
    #[inline]
    pub fn increment(&self, value: L) {
        self.counters[value.index()].increment();
    }

    /// Adds one to the count of `value` on any thread, for a cell of which every update is made so.
    #[inline]
    pub fn increment_from_any_thread(&self, value: L) {
        self.counters[value.index()].add_from_any_thread(1);
    }

    /// The count of `value`; callable on any thread.
    #[must_use]
    pub fn value(&self, value: L) -> u64 {
        self.counters[value.index()].value()
    }
}

impl<L: LabelValue, const N: usize> Default for CounterBy<L, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<L: LabelValue>() -> Vec<&'static str> {
        L::ALL.iter().map(|value| value.as_str()).collect()
    }

    #[test]
    fn the_texts_are_those_that_dashboards_hold_on_to() {
        assert_eq!(
            texts::<CloseReason>().join(", "),
            "done, downstream_reset, upstream_reset, upstream_failed, idle_timeout, \
             half_close_timeout, drain, protocol"
        );
        assert_eq!(
            texts::<RejectReason>().join(", "),
            "limit, shard_limit, listener_limit, direct, missing, loop, blackhole"
        );
        assert_eq!(
            texts::<ConnectFailure>().join(", "),
            "refused, timeout, unreachable, reset, local"
        );
        assert_eq!(texts::<LookupResult>().join(", "), "redirected, tproxy, direct, missing, loop");
        assert_eq!(texts::<ReloadResult>().join(", "), "accepted, refused");
    }

    #[test]
    fn every_value_has_a_counter_of_its_own() {
        let counters = CounterBy::<CloseReason, { CloseReason::COUNT }>::new();
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            (0..=place).for_each(|_| counters.increment(*reason));
        }
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(counters.value(*reason), place as u64 + 1, "{reason}");
        }
    }

    #[test]
    fn an_unknown_error_number_is_other() {
        assert_eq!(AcceptError::from_errno(libc::EMFILE).as_str(), "EMFILE");
        assert_eq!(AcceptError::from_errno(9999), AcceptError::Other);
        assert_eq!(AcceptError::from_errno(-1), AcceptError::Other);
    }
}
