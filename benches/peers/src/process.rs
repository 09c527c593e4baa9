//! What the instrument asks the system about processes, and asks of its own: CPUs, CPU time, memory.
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

/// Lets the calling thread run as soon as it can and as long as it wants, or as others do again
/// (sched(7), SCHED_FIFO). What it starts meanwhile inherits that.
///
/// # Errors
/// The system allows it to root only, or to nobody.
pub(crate) fn set_urgent(urgent: bool) -> io::Result<()> {
    let (policy, sched_priority) =
        if urgent { (libc::SCHED_FIFO, 1) } else { (libc::SCHED_OTHER, 0) };
    let parameter = libc::sched_param { sched_priority };
    // SAFETY: the call reads one parameter that lives through it.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The limit of open files, which child processes inherit.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Files that this process has open.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn files_in_use() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
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

/// A process and those that it has started, not theirs.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn with_children(pid: u32) -> io::Result<Vec<u32>> {
    let mut pids = vec![pid];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(candidate) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes may end meanwhile.
        if stat_field(candidate, 4).is_ok_and(|parent| parent == u64::from(pid)) {
            pids.push(candidate);
        }
    }
    Ok(pids)
}

/// A field of `/proc/PID/stat`, numbered as in proc_pid_stat(5): the 3rd, or a later one.
fn stat_field(pid: u32, number: usize) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Counted from behind the 2nd, the name, which may hold anything.
    stat.rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(number - 3)?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

/// A thread of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thread {
    pub(crate) pid: u32,
    id: u32,
    pub(crate) name: String,
}

impl Thread {
    /// All threads of these processes, by process and number.
    pub(crate) fn all(pids: &[u32]) -> io::Result<Vec<Self>> {
        let mut threads = Vec::new();
        for &pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?;
                let name = fs::read_to_string(task.path().join("comm"))?.trim_end().to_owned();
                let id = task.file_name().to_str().and_then(|id| id.parse().ok());
                threads.extend(id.map(|id| Self { pid, id, name }));
            }
        }
        threads.sort_by_key(|thread| (thread.pid, thread.id));
        Ok(threads)
    }

    /// How long it has run. Of a thread that runs right now, up to the last timer tick or so.
    ///
    /// # Errors
    /// It has ended, or the kernel keeps no such account (`CONFIG_SCHED_INFO`).
    pub(crate) fn run_time(&self) -> io::Result<Duration> {
        let account = fs::read_to_string(format!("/proc/{}/task/{}/schedstat", self.pid, self.id))?;
        let nanoseconds = account.split(' ').next().and_then(|time| time.parse().ok());
        nanoseconds
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::other(format!("{account:?} is no schedstat")))
    }
}

/// CPU time that a proxy has used, all of its processes and threads together.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// To the nanosecond, the running time slice included.
    pub(crate) total: Duration,
    /// Of it in user space, as sampled by the timer tick and in units of 10 ms: a rough idea.
    pub(crate) user: Duration,
}

impl CpuTime {
    /// # Errors
    /// One of the processes has gone.
    pub(crate) fn of(pids: &[u32]) -> io::Result<Self> {
        let mut sum = Self::default();
        for &pid in pids {
            sum.total += total_cpu_time(pid)?;
            sum.user += Duration::from_millis(stat_field(pid, 14)? * 10);
        }
        Ok(sum)
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

/// Anonymous memory of some processes that is resident, in bytes (`RssAnon`, proc_pid_status(5)).
pub(crate) fn anonymous_memory(pids: &[u32]) -> io::Result<u64> {
    pids.iter().map(|&pid| anonymous_memory_of(pid)).sum()
}

fn anonymous_memory_of(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok())
        .map(|kibibytes: u64| kibibytes * 1024)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no RssAnon")))
}
