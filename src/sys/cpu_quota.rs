//! The CPU quota of the control group that this process runs in.
//!
//! **In**: `/proc/self/cgroup`, `/proc/self/mountinfo` and the quota files below the cgroup mounts. **Out**: a number
//! of CPUs, rounded up, or `None` where nothing limits. **Never** fails: a file that is missing or strange is no limit.
//!
//! Version 2 keeps `cpu.max` ("QUOTA PERIOD", or "max PERIOD"), version 1 `cpu.cfs_quota_us` (-1 for none) and
//! `cpu.cfs_period_us`. A limit holds for everything below it, so each level up to the mount point counts and the
//! smallest wins. (Documentation/admin-guide/cgroup-v2.rst, Documentation/scheduler/sched-bwc.rst; proc(5) for the
//! format of mountinfo.)

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The quota in CPUs, rounded up, at least 1.
pub(crate) fn current() -> Option<usize> {
    below(Path::new("/"))
}

/// [`current`], as a process would see it whose root directory is `root`.
fn below(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let quotas = mounts.lines().filter_map(Mount::parse).filter_map(|mount| {
        let group = mount.version.group_of_this_process(&groups)?;
        mount.quota(root, group)
    });
    quotas.min()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Finds this process's group among lines of the form `ID:CONTROLLERS:PATH`.
    fn group_of_this_process(self, groups: &str) -> Option<&str> {
        groups.lines().find_map(|line| {
            let (id, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let found = match self {
                Version::One => controllers.split(',').any(|controller| controller == "cpu"),
                Version::Two => id == "0" && controllers.is_empty(),
            };
            found.then_some(path)
        })
    }

    fn quota_in(self, directory: &Path) -> Option<usize> {
        let read = |name| fs::read_to_string(directory.join(name)).ok();
        match self {
            Version::One => {
                in_cpus(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
            }
            Version::Two => {
                let limit = read("cpu.max")?;
                let (quota, period) = limit.trim().split_once(' ')?;
                in_cpus(quota, period)
            }
        }
    }
}

/// `quota` is `max` or -1 where there is none: neither parses as an unsigned number.
fn in_cpus(quota: &str, period: &str) -> Option<usize> {
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

/// A mounted cgroup hierarchy that can hold CPU quotas.
struct Mount {
    version: Version,
    /// The group that is mounted, `/` for the topmost.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// A line of mountinfo: `ID PARENT DEV ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER-OPTIONS`.
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let version = match (file_system.next()?, file_system.nth(1)?) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", options) if options.split(',').any(|o| o == "cpu") => Version::One,
            _ => return None,
        };
        Some(Mount { version, root: root.into(), point: point.into() })
    }

    /// The smallest quota from `group` up to the mount point.
    ///
    /// A container may see the path of its group as the node sees it, while only that group is mounted; then the mount
    /// point itself is the group.
    fn quota(&self, root: &Path, group: &str) -> Option<usize> {
        let top = root.join(self.point.strip_prefix("/").unwrap_or(&self.point));
        let below_top = Path::new(group).strip_prefix(&self.root).unwrap_or(Path::new(""));
        let escapes = below_top.components().any(|part| part == std::path::Component::ParentDir);
        let group = if escapes { top.clone() } else { top.join(below_top) };
        let levels = group.ancestors().take_while(|level| level.starts_with(&top));
        levels.filter_map(|level| self.version.quota_in(level)).min()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A root directory with these files in it.
    fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    const MOUNT_V2: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const MOUNT_V1: &str = "25 24 0:22 / /proc rw - proc proc rw\n\
         31 30 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        for (leaf, parent, expected) in [
            ("max 100000\n", "max 100000\n", None),
            ("150000 100000\n", "max 100000\n", Some(2)),
            ("400000 100000\n", "250000 100000\n", Some(3)),
            ("1000 100000\n", "max 100000\n", Some(1)),
            ("rubbish\n", "200000 100000\n", Some(2)),
            ("100 0\n", "max 100000\n", None),
        ] {
            let root = tree(&[
                ("proc/self/cgroup", "0::/kubepods/pod1\n"),
                ("proc/self/mountinfo", MOUNT_V2),
                ("sys/fs/cgroup/kubepods/pod1/cpu.max", leaf),
                ("sys/fs/cgroup/kubepods/cpu.max", parent),
            ]);
            assert_eq!(below(root.path()), expected, "{leaf:?} below {parent:?}");
        }
    }

    #[test]
    fn a_container_in_its_own_cgroup_namespace_reads_the_mount_point() {
        for group in ["0::/\n", "0::/../../elsewhere\n"] {
            let root = tree(&[
                ("proc/self/cgroup", group),
                ("proc/self/mountinfo", MOUNT_V2),
                ("sys/fs/cgroup/cpu.max", "200000 100000"),
            ]);
            assert_eq!(below(root.path()), Some(2), "{group}");
        }
    }

    #[test]
    fn version_one_quotas_are_read_through_the_mounted_group() {
        for (quota, expected) in [("-1", None), ("250000", Some(3))] {
            let root = tree(&[
                ("proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc/inner\n"),
                ("proc/self/mountinfo", MOUNT_V1),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ]);
            assert_eq!(below(root.path()), expected, "{quota}");
        }
    }

    #[test]
    fn a_group_outside_the_mount_falls_back_to_the_mount_point() {
        let root = tree(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/elsewhere\n"),
            ("proc/self/mountinfo", MOUNT_V1),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
        ]);
        assert_eq!(below(root.path()), Some(1));
    }

    #[test]
    fn a_machine_without_cgroups_has_no_quota() {
        assert_eq!(below(tree(&[]).path()), None);
        let root = tree(&[("proc/self/cgroup", ":\nx\n"), ("proc/self/mountinfo", "- \n a - b\n")]);
        assert_eq!(below(root.path()), None);
    }
}
