//! What the benchmark asks the system about processes, and asks of its own: CPUs, CPU time, memory.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the calling thread may run on, in order.
pub(crate) fn usable_cpus() -> io::Result<Vec<usize>> {
    let usable = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| usable.is_set(cpu)).collect())
}

/// Puts the calling thread on these CPUs; processes and threads that it starts inherit that.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut only = CpuSet::new();
    cpus.iter().for_each(|&cpu| only.set(cpu));
    sched_setaffinity(None, &only)?;
    Ok(())
}

/// The limit of open files, which child processes inherit.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files to `wanted`, or as far as it goes.
pub(crate) fn raise_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if open_files() >= wanted {
        return;
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    for (soft, hard) in [(wanted, hard.max(wanted)), (wanted.min(hard), hard)] {
        let raised = Rlimit { current: Some(soft), maximum: Some(hard) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// CPU time that a process has used, all of its threads together.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// To the nanosecond, the running time slice included.
    pub(crate) total: Duration,
    /// Of it in user space, as sampled by the timer tick and in units of 10 ms: a rough idea.
    pub(crate) user: Duration,
}

impl CpuTime {
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc_pid_stat(5): field 14, counted from behind the name, which may hold anything.
        let ticks = stat
            .rsplit_once(')')
            .and_then(|(_, fields)| fields.split_whitespace().nth(11)?.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))?;
        Ok(Self { total: total_cpu_time(pid)?, user: Duration::from_millis(ticks * 10) })
    }
}

fn total_cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the call writes one clock id to a place that lives through it.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call writes one timespec to a place that lives through it.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it wrote the time.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Anonymous memory of a process that is resident, in bytes (`RssAnon`, proc_pid_status(5)).
pub(crate) fn anonymous_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok())
        .map(|kibibytes: u64| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no RssAnon")))
}
