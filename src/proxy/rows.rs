//! The rows that the admin server shows of a running proxy.

use super::running::Running;
use crate::{
    admin::routes::{ListenerRow, ShardRow},
    sync::lock,
};

impl Running {
    pub(super) fn listener_rows(&self) -> Vec<ListenerRow> {
        let mut rows = Vec::new();
        for bound in &lock(&self.sockets).listeners {
            rows.push(ListenerRow {
                name: bound.name.clone(),
                bind: bound.local_address().map(ToString::to_string),
                matches: None,
            });
            rows.extend(bound.destinations().map(|(name, pattern)| ListenerRow {
                name,
                bind: None,
                matches: Some(pattern),
            }));
        }
        rows
    }

    pub(super) fn shard_rows(&self) -> Vec<ShardRow> {
        let mut loads = Vec::new();
        self.shared.loads.snapshot(&mut loads);
        let rows = self.listener_rows();
        let total = |shard: usize| {
            let of_listener = |row: &ListenerRow| {
                let shards = self.shared.registry.listener_shards(&row.name);
                shards.iter().find(|row| row.shard == shard).map_or(0, |row| row.total)
            };
            rows.iter().map(of_listener).sum()
        };
        let row = |load: &crate::shard::ShardLoad| ShardRow {
            shard: load.shard,
            driver: self.driver().name(),
            cpu: self.cpus[load.shard],
            connections: u64::from(load.connections),
            weight: u64::from(load.weight),
            busy_ratio: f64::from(load.busy_permille) / 1000.0,
            free_buffers: self.shared.registry.shard(load.shard).free_buffers.value().max(0) as u64,
            total: total(load.shard),
        };
        loads.iter().map(row).collect()
    }
}
