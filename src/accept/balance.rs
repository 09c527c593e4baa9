//! Where the shard is chosen.
//!
//! *In:* the loads of all shards; a policy. *Out:* for each connection the guard that counts it on
//! the shard that is to carry it. *Owns:* the policy's state. *Never:* touches a connection, a
//! socket or a queue.
//!
//! # How two acceptors agree
//! Each looks at the loads, lets its policy choose, and claims the shard *from the count that it
//! saw*. Where another acceptor, or a close, changed that count meanwhile, it looks and chooses
//! again. So with [`LeastConnections`] the shard that is claimed was a least-loaded one at that very
//! moment as far as opening is concerned, and the spread (most minus fewest connections over the
//! available shards, all listeners and acceptors together) is at most 1 after each claim while
//! nothing closes.
//!
//! # Threads
//! A [`Balancer`] belongs to one acceptor, and may be sent to its thread; each acceptor has its own,
//! over the same [`Loads`].
//!
//! # Liveness
//! Nothing waits. Choosing again is bounded; after the last try the choice is claimed as it is,
//! since carrying a connection a little unevenly is better than not carrying it.

mod policy;

pub use self::policy::{LeastBusy, LeastConnections, Policy, RoundRobin};

use crate::shard::{LoadGuard, Loads, ShardLoad};
use std::{
    error, fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::Arc,
};

/// How often to choose again where the count that a choice rests on has changed. Acceptors that
/// work in step can meet at the same shard a few times running; each time one of them gets through,
/// so losing this many times in a row does not happen by chance.
const CLAIM_TRIES: usize = 64;

/// Which policy places connections: a value to configure, from which each acceptor makes its own.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// [`LeastConnections`], the default.
    #[default]
    LeastConnections,
    /// [`LeastBusy`].
    LeastBusy,
    /// [`RoundRobin`].
    RoundRobin,
    /// No policy: each shard accepts for itself from a socket of its own with SO_REUSEPORT, and the
    /// kernel spreads connections over those by hash (socket(7)). Uneven by chance, and here for
    /// comparison.
    Kernel,
    /// A policy of the user's own, made once an acceptor. See [`Balance::custom`].
    Custom(Arc<dyn Fn() -> Box<dyn Policy> + Send + Sync>),
}

impl Balance {
    /// A policy of your own; `make` is called once for each acceptor.
    ///
    /// ```
    /// use evenkeel::{accept::Balance, shard::ShardLoad};
    ///
    /// // Fewest requests in flight, whatever the number of connections.
    /// let balance = Balance::custom(|| {
    ///     |loads: &[ShardLoad]| {
    ///         let available = loads.iter().filter(|load| load.available);
    ///         available.min_by_key(|load| load.weight).map(|load| load.shard)
    ///     }
    /// });
    /// ```
    pub fn custom<P: Policy + 'static>(make: impl Fn() -> P + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(move || Box::new(make())))
    }

    /// A new policy of this kind, in its first state; `None` for [`Balance::Kernel`], which needs
    /// neither policy nor acceptor.
    pub fn policy(&self) -> Option<Box<dyn Policy>> {
        match self {
            Self::LeastConnections => Some(Box::new(LeastConnections::default())),
            Self::LeastBusy => Some(Box::new(LeastBusy::default())),
            Self::RoundRobin => Some(Box::new(RoundRobin::default())),
            Self::Kernel => None,
            Self::Custom(make) => Some(make()),
        }
    }
}

/// The name that configuration uses; `custom` for a policy of the user's own.
impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastConnections => "least-connections",
            Self::LeastBusy => "least-busy",
            Self::RoundRobin => "round-robin",
            Self::Kernel => "kernel",
            Self::Custom(_) => "custom",
        })
    }
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Balance({self})")
    }
}

impl FromStr for Balance {
    type Err = UnknownBalance;

    fn from_str(name: &str) -> Result<Self, UnknownBalance> {
        match name {
            "least-connections" => Ok(Self::LeastConnections),
            "least-busy" => Ok(Self::LeastBusy),
            "round-robin" => Ok(Self::RoundRobin),
            "kernel" => Ok(Self::Kernel),
            _ => Err(UnknownBalance { name: name.to_owned() }),
        }
    }
}

/// A name that is none of the built-in policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBalance {
    name: String,
}

impl fmt::Display for UnknownBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no balance policy is called {:?}: use least-connections, least-busy, round-robin or kernel",
            self.name
        )
    }
}

impl error::Error for UnknownBalance {}

/// Why a connection got no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoShard {
    /// Every shard has died or is leaving.
    Unavailable,
    /// Every available shard carries as many connections as it may.
    AtCap,
    /// Every shard that could have taken the connection was excluded by the caller, its inbox being
    /// full. That passes: it may be tried again a moment later.
    Excluded,
}

impl fmt::Display for NoShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "no shard is available to take the connection",
            Self::AtCap => {
                "every shard is at its limit of connections: raise the limit for a shard, or add shards"
            }
            Self::Excluded => "no shard can take the connection yet: all their inboxes are full",
        })
    }
}

impl error::Error for NoShard {}

/// Chooses a shard for each connection that one acceptor accepts, and counts it there.
///
/// A policy is not trusted. Where it names a shard that does not exist or cannot take a connection,
/// names none although there is one, or panics, the connection goes by [`LeastConnections`] instead,
/// and [`Loads::overruled_choices`] counts it.
pub struct Balancer {
    loads: Loads,
    policy: Box<dyn Policy>,
    overruling: LeastConnections,
    /// `u32::MAX`: none.
    connections_per_shard: u32,
    /// The loads as last looked at; kept for its memory.
    seen: Vec<ShardLoad>,
}

impl Balancer {
    /// A balancer over `loads`, without a cap.
    pub fn new(loads: Loads, policy: Box<dyn Policy>) -> Self {
        let seen = Vec::with_capacity(loads.len());
        let overruling = LeastConnections::default();
        Self { loads, policy, overruling, connections_per_shard: u32::MAX, seen }
    }

    /// Chooses by another policy from now on.
    pub fn set_policy(&mut self, policy: Box<dyn Policy>) {
        self.policy = policy;
    }

    /// From now on no shard is given a connection once it carries this many; 0 is no cap.
    /// Connections that are there stay.
    pub fn cap_connections_per_shard(&mut self, connections: u32) {
        self.connections_per_shard = if connections == 0 { u32::MAX } else { connections };
    }

    /// The loads that this chooses by.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// Chooses a shard for one connection and counts the connection there.
    ///
    /// # Errors
    /// When no shard may take it. See [`NoShard`].
    pub fn assign(&mut self) -> Result<LoadGuard, NoShard> {
        self.assign_excluding(&[])
    }

    /// As [`assign`](Self::assign), and leaves out the shards in `excluded`: those whose inboxes
    /// have refused this connection already.
    ///
    /// # Errors
    /// When no shard may take it. See [`NoShard`].
    pub fn assign_excluding(&mut self, excluded: &[usize]) -> Result<LoadGuard, NoShard> {
        for _ in 0..CLAIM_TRIES {
            self.look(excluded)?;
            let choice = self.choose().ok_or(NoShard::Unavailable)?;
            if let Some(guard) = self.loads.try_claim(choice.shard, choice.connections) {
                return Ok(guard);
            }
        }
        self.look(excluded)?;
        let choice = self.choose().ok_or(NoShard::Unavailable)?;
        let guard = self.loads.claim(choice.shard).ok_or(NoShard::Unavailable)?;
        // Unlike the claims above, this one can have come after somebody else's.
        match self.loads.read(choice.shard) {
            Some(load) if load.connections > self.connections_per_shard => Err(NoShard::AtCap),
            _ => Ok(guard),
        }
    }

    /// Looks at all shards, and marks those as unavailable that cannot take this connection.
    fn look(&mut self, excluded: &[usize]) -> Result<(), NoShard> {
        self.loads.snapshot(&mut self.seen);
        let (mut candidates, mut at_cap, mut left_out) = (0_usize, 0_usize, 0_usize);
        for load in self.seen.iter_mut().filter(|load| load.available) {
            candidates += 1;
            if load.connections >= self.connections_per_shard {
                load.available = false;
                at_cap += 1;
            }
        }
        for &shard in excluded {
            if let Some(load) = self.seen.get_mut(shard)
                && load.available
            {
                load.available = false;
                left_out += 1;
            }
        }
        match candidates - at_cap - left_out {
            0 if left_out > 0 => Err(NoShard::Excluded),
            0 if at_cap > 0 => Err(NoShard::AtCap),
            0 => Err(NoShard::Unavailable),
            _ => Ok(()),
        }
    }

    /// The policy's choice among the shards just looked at, or a sound one in its place.
    fn choose(&mut self) -> Option<ShardLoad> {
        let (policy, seen) = (&mut self.policy, &self.seen);
        // A policy that has panicked is in a state of its own making, but it is only ever asked for
        // a number, and the number is checked.
        let choice = catch_unwind(AssertUnwindSafe(|| policy.choose(seen))).ok().flatten();
        let sound = choice.and_then(|shard| seen.get(shard)).filter(|load| load.available);
        if sound.is_some() {
            return sound.copied();
        }
        self.loads.count_overruled_choice();
        self.overruling.choose(seen).map(|shard| seen[shard])
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("loads", &self.loads)
            .field("connections_per_shard", &self.connections_per_shard)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::thread;

    #[test]
    fn two_acceptors_place_evenly_between_them() {
        loom::model(|| {
            let loads = Loads::new(2);
            let assign = |loads: Loads| {
                let mut balancer = Balancer::new(loads, Box::new(LeastConnections::default()));
                balancer.assign().unwrap()
            };
            let other = {
                let loads = loads.clone();
                thread::spawn(move || assign(loads))
            };
            let ours = assign(loads.clone());
            let theirs = other.join().unwrap();
            assert_ne!(ours.shard(), theirs.shard());
            drop((ours, theirs));
            assert_eq!(loads.total(), 0);
        });
    }
}
