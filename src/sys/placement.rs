//! Which CPUs each shard runs on.
//!
//! **In**: the affinity mask, the CPU quota, and what the user asked for. **Out**: a [`Layout`], one [`Placement`] a
//! shard. Computing it is a pure function; [`Placement::apply`] is the only part that touches a thread.
//!
//! The rule behind `auto`: pin one to one where the shards are exactly the CPUs of the mask, or the user named the
//! CPUs. Everywhere else a shard keeps the mask. Under a CPU quota the mask is the whole node, and pinning would put
//! every small proxy of the node on the same first CPUs.

use std::{error::Error, fmt, io, num::NonZeroUsize};

use crate::sys::cpus::{self, CpuSet};

/// How many shards the user asked for, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ShardCount {
    /// One a usable CPU.
    #[default]
    Auto,
    Exactly(NonZeroUsize),
    /// One on each of these CPUs.
    On(CpuSet),
}

/// When a shard's thread is pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pin {
    #[default]
    Auto,
    /// Always one CPU a shard, in the order of the mask, starting over where there are more shards than CPUs.
    Always,
    Never,
}

/// Where one shard's thread runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// On this CPU only.
    Pinned(usize),
    /// On any of these CPUs.
    Among(CpuSet),
    /// Wherever the thread that starts it may run. The mask is left alone rather than set to the same value, so that
    /// CPUs which the container is given later are used too.
    Inherited,
}

impl Placement {
    /// Moves the calling thread to where this placement says.
    pub(crate) fn apply(&self) -> io::Result<()> {
        match self {
            Placement::Pinned(cpu) => cpus::pin_current_thread(*cpu),
            Placement::Among(cpus) => cpus::restrict_current_thread(cpus),
            Placement::Inherited => Ok(()),
        }
    }
}

/// The placements of all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// One a shard, in the order of the shards; never empty.
    pub(crate) shards: Vec<Placement>,
    /// CPUs that the process can keep busy: the mask cut by the quota.
    pub(crate) usable: usize,
}

impl Layout {
    /// Whether there are more shards than CPUs to run them: allowed, but worth a line in the log.
    pub(crate) fn is_oversubscribed(&self) -> bool {
        self.shards.len() > self.usable
    }
}

/// A CPU was asked for that this process may not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuNotAllowed {
    cpu: usize,
    mask: CpuSet,
}

impl fmt::Display for CpuNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuNotAllowed { cpu, mask } = self;
        write!(
            f,
            "CPU {cpu} is not one that this process may use ({mask}); choose from these, or widen the \
             affinity mask (taskset, cpuset)"
        )
    }
}

impl Error for CpuNotAllowed {}

/// Places the shards. `quota` is in CPUs, rounded up, `None` where there is none.
pub(crate) fn layout(
    mask: &CpuSet,
    quota: Option<usize>,
    count: &ShardCount,
    pin: Pin,
) -> Result<Layout, CpuNotAllowed> {
    let usable = cpus::usable(mask, quota);
    let shards = match count {
        ShardCount::On(cpus) => on_each(cpus, mask, pin)?,
        ShardCount::Auto => over_the_mask(usable, mask, pin),
        ShardCount::Exactly(shards) => over_the_mask(shards.get(), mask, pin),
    };
    Ok(Layout { shards, usable })
}

fn on_each(cpus: &CpuSet, mask: &CpuSet, pin: Pin) -> Result<Vec<Placement>, CpuNotAllowed> {
    if let Some(&cpu) = cpus.as_slice().iter().find(|cpu| !mask.contains(**cpu)) {
        return Err(CpuNotAllowed { cpu, mask: mask.clone() });
    }
    let place = |&cpu: &usize| match pin {
        Pin::Auto | Pin::Always => Placement::Pinned(cpu),
        Pin::Never => Placement::Among(cpus.clone()),
    };
    Ok(cpus.as_slice().iter().map(place).collect())
}

fn over_the_mask(shards: usize, mask: &CpuSet, pin: Pin) -> Vec<Placement> {
    let pinned = match pin {
        Pin::Auto => shards == mask.len(),
        Pin::Always => true,
        Pin::Never => false,
    };
    if pinned && mask.len() > 0 {
        let in_order = mask.as_slice().iter().cycle().take(shards);
        in_order.map(|cpu| Placement::Pinned(*cpu)).collect()
    } else {
        vec![Placement::Inherited; shards]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::sys::cpus::{affinity, parse_cpu_list};

    fn cpus(list: &str) -> CpuSet {
        parse_cpu_list(list).unwrap()
    }

    fn exactly(shards: usize) -> ShardCount {
        ShardCount::Exactly(NonZeroUsize::new(shards).unwrap())
    }

    fn pinned(cpus: &[usize]) -> Vec<Placement> {
        cpus.iter().map(|cpu| Placement::Pinned(*cpu)).collect()
    }

    fn inherited(shards: usize) -> Vec<Placement> {
        vec![Placement::Inherited; shards]
    }

    #[test]
    fn placements_by_mask_quota_and_settings() {
        let on = |list| ShardCount::On(cpus(list));
        let among = |list| vec![Placement::Among(cpus(list)); cpus(list).len()];
        use Pin::*;
        let table = [
            // mask, quota, asked for, pin -> placements, oversubscribed
            ("0-3", None, ShardCount::Auto, Auto, pinned(&[0, 1, 2, 3]), false),
            ("2,5", None, ShardCount::Auto, Auto, pinned(&[2, 5]), false),
            ("0-63", Some(2), ShardCount::Auto, Auto, inherited(2), false),
            ("0-3", Some(4), ShardCount::Auto, Auto, pinned(&[0, 1, 2, 3]), false),
            ("0-3", Some(9), ShardCount::Auto, Auto, pinned(&[0, 1, 2, 3]), false),
            ("0-63", Some(2), ShardCount::Auto, Always, pinned(&[0, 1]), false),
            ("0-3", None, ShardCount::Auto, Never, inherited(4), false),
            ("0-3", None, exactly(2), Auto, inherited(2), false),
            ("0-3", None, exactly(4), Auto, pinned(&[0, 1, 2, 3]), false),
            ("0-1", None, exactly(5), Auto, inherited(5), true),
            ("0-1", None, exactly(5), Always, pinned(&[0, 1, 0, 1, 0]), true),
            ("0-3", Some(2), exactly(4), Auto, pinned(&[0, 1, 2, 3]), true),
            ("0-7", None, on("1,3-4"), Auto, pinned(&[1, 3, 4]), false),
            ("0-7", Some(1), on("1,3-4"), Auto, pinned(&[1, 3, 4]), true),
            ("0-7", None, on("1,3-4"), Always, pinned(&[1, 3, 4]), false),
            ("0-7", None, on("1,3-4"), Never, among("1,3-4"), false),
        ];
        for (mask, quota, count, pin, shards, oversubscribed) in table {
            let row = format!("{mask} {quota:?} {count:?} {pin:?}");
            let layout = layout(&cpus(mask), quota, &count, pin).unwrap();
            assert_eq!(layout.shards, shards, "{row}");
            assert_eq!(layout.is_oversubscribed(), oversubscribed, "{row}");
        }
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused_by_number() {
        let error = layout(&cpus("0-3"), None, &ShardCount::On(cpus("2-4")), Pin::Never);
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("CPU 4 ") && text.contains("(0-3)"), "{text}");
    }

    #[test]
    fn an_empty_mask_still_gives_a_shard() {
        let layout = layout(&CpuSet::default(), None, &ShardCount::Auto, Pin::Always).unwrap();
        assert_eq!(layout.shards, inherited(1));
    }

    #[test]
    fn applying_a_placement_moves_the_thread() {
        let mask = affinity().unwrap();
        let first = mask.as_slice()[0];
        let after = |placement: Placement| {
            let thread = thread::spawn(move || {
                placement.apply().unwrap();
                affinity().unwrap()
            });
            thread.join().unwrap()
        };
        assert_eq!(after(Placement::Pinned(first)), [first].into_iter().collect());
        assert_eq!(after(Placement::Among(mask.clone())), mask);
        assert_eq!(after(Placement::Inherited), mask);
    }
}
