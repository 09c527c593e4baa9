//! The `process_*` metrics that every Prometheus client has, about the whole process.
//!
//! They are not a proxy's own, so the registry has them only if whoever assembles the proxy adds
//! [`Process`] as a source, once a process. Reading them opens no descriptor, so they are right when
//! descriptors have run out, which is when they are looked at.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::Unit;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalog::Metric;
use super::sink::{Sink, Source};

macro_rules! process_metric {
    ($name:literal, $unit:expr, $help:literal) => {
        Metric { name: concat!("process_", $name), unit: $unit, help: $help }
    };
}

const CPU_SECONDS: Metric = process_metric!(
    "cpu_seconds_total",
    Some(Unit::Seconds),
    "User and system CPU time spent by the process."
);
const START_TIME: Metric = process_metric!(
    "start_time_seconds",
    Some(Unit::Seconds),
    "Unix time at which the process started."
);
const VIRTUAL_MEMORY: Metric =
    process_metric!("virtual_memory_bytes", Some(Unit::Bytes), "Virtual memory of the process.");
const RESIDENT_MEMORY: Metric =
    process_metric!("resident_memory_bytes", Some(Unit::Bytes), "Resident memory of the process.");
const OPEN_FDS: Metric =
    process_metric!("open_fds", None, "File descriptors that the process has open.");
const MAX_FDS: Metric =
    process_metric!("max_fds", None, "File descriptors that the process may have open.");

/// A source of the `process_*` metrics. What the system does not tell, without /proc for instance,
/// is left out.
#[derive(Debug)]
pub struct Process {
    /// /proc/self/stat, kept open.
    stat: Option<File>,
    start_time_seconds: Option<f64>,
}

impl Process {
    /// Opens /proc/self/stat and keeps it: one descriptor.
    #[must_use]
    pub fn new() -> Self {
        let stat = File::open("/proc/self/stat").ok();
        let start_time_seconds = stat.as_ref().and_then(read_stat).map(|stat| {
            let ticks = rustix::param::clock_ticks_per_second().max(1);
            boot_time_seconds() + exact(stat.start_ticks) / exact(ticks)
        });
        Self { stat, start_time_seconds }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for Process {
    fn collect(&self, sink: &mut dyn Sink) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        sink.seconds(&CPU_SECONDS, &[], timespec_seconds(cpu));
        if let Some(start) = self.start_time_seconds {
            sink.gauge(&START_TIME, &[], start);
        }
        if let Some(stat) = self.stat.as_ref().and_then(read_stat) {
            sink.gauge(&VIRTUAL_MEMORY, &[], exact(stat.virtual_bytes));
            let resident = stat.resident_pages.saturating_mul(rustix::param::page_size() as u64);
            sink.gauge(&RESIDENT_MEMORY, &[], exact(resident));
        }
        if let Some(open) = open_descriptors() {
            sink.gauge(&OPEN_FDS, &[], exact(open));
        }
        let limit = getrlimit(Resource::Nofile).current;
        sink.gauge(&MAX_FDS, &[], limit.map_or(f64::INFINITY, exact));
    }
}

struct Stat {
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

fn read_stat(file: &File) -> Option<Stat> {
    let mut buffer = [0; 1024];
    let length = file.read_at(&mut buffer, 0).ok()?;
    parse_stat(str::from_utf8(buffer.get(..length)?).ok()?)
}

/// Fields 22 to 24 of proc_pid_stat(5). The second field, the command's name in parentheses, may
/// hold spaces and parentheses itself, so fields are counted from its last one.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split_ascii_whitespace().skip(22 - 3);
    let mut next = || fields.next()?.parse().ok();
    Some(Stat { start_ticks: next()?, virtual_bytes: next()?, resident_pages: next()? })
}

/// Since Linux 6.2 the size of /proc/self/fd is the number of descriptors; before, it is 0 and the
/// directory must be read, which takes a descriptor that is not counted.
fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => Some((fs::read_dir(DIRECTORY).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// When the host booted, as the clock now has it.
fn boot_time_seconds() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    now - timespec_seconds(clock_gettime(ClockId::Boottime))
}

fn timespec_seconds(time: rustix::time::Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Exact up to 2^53.
fn exact(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::{HistogramSnapshot, Labels};
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Values(BTreeMap<&'static str, f64>);

    impl Sink for Values {
        fn counter(&mut self, _: &Metric, _: &Labels<'_>, _: u64) {
            unreachable!("no process metric is a whole counter");
        }
        fn seconds(&mut self, metric: &Metric, _: &Labels<'_>, value: f64) {
            self.0.insert(metric.name, value);
        }
        fn gauge(&mut self, metric: &Metric, _: &Labels<'_>, value: f64) {
            self.0.insert(metric.name, value);
        }
        fn histogram(&mut self, _: &Metric, _: &Labels<'_>, _: &HistogramSnapshot) {
            unreachable!("no process metric is a histogram");
        }
    }

    #[test]
    fn this_process_is_measured() {
        let process = Process::new();
        let memory = vec![1u8; 1 << 24];
        let mut values = Values::default();
        process.collect(&mut values);
        std::hint::black_box(&memory);
        let value = |name: &str| values.0[name];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3600.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
        assert!(value("process_resident_memory_bytes") > 16_777_216.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 4.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = parse_stat(&format!("1 (a) b ) (c)) {}\n", fields.join(" "))).unwrap();
        assert_eq!((stat.start_ticks, stat.virtual_bytes, stat.resident_pages), (22, 23, 24));
        assert!(parse_stat("1 (short) S 2").is_none());
        assert!(parse_stat("").is_none());
    }
}
