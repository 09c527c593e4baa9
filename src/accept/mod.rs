//! accept

mod balance;

pub use self::balance::{
    Balance, Balancer, LeastBusy, LeastConnections, NoShard, Policy, RoundRobin, UnknownBalance,
};
