//! shard

mod balanced;
pub(crate) mod inbox;
mod load;

pub use self::{
    balanced::Balanced,
    load::{LoadGuard, Loads, ShardLoad, WeightGuard},
};
