//! Making a ring: flags, restrictions, and what refuses us and why.

use std::{fmt, io};

use io_uring::{IoUring, opcode, register::Restriction};

use super::capabilities::Capabilities;
use crate::sys::limits::{self, IoUringSysctl};

/// Submission queue entries: what a turn can start with one system call. More wait in memory.
const SUBMISSIONS: u32 = 256;
/// Completion queue entries. Multishot operations complete many times for one submission; a full
/// queue loses nothing, but the kernel then allocates for each completion.
const COMPLETIONS: u32 = 4096;

/// Why no ring could be made, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingRefused {
    /// `kernel.io_uring_disabled` forbids it: 1 to all but privileged processes and the group
    /// `kernel.io_uring_group`, 2 to everybody.
    DisabledBySysctl {
        /// The sysctl's value.
        value: u32,
    },
    /// A seccomp filter answers for the kernel, as the default profiles of Docker since 25,
    /// containerd since 2.0 and podman do.
    Seccomp {
        /// The error number that the filter gives.
        error: i32,
    },
    /// The memory that all rings of this user may lock together is used up.
    LockedMemory {
        /// RLIMIT_MEMLOCK in bytes; `None` is no limit.
        limit: Option<u64>,
        /// What one shard's ring needs, in bytes.
        needed: u64,
    },
    /// The kernel lacks something that this crate needs.
    KernelTooOld {
        /// What it lacks.
        lacks: &'static str,
        /// What `uname -r` says.
        release: String,
    },
    /// Another error.
    Other {
        /// What was being done.
        doing: &'static str,
        /// The error number.
        error: i32,
    },
}

impl fmt::Display for RingRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingRefused::DisabledBySysctl { value } => write!(
                f,
                "io_uring is switched off by the sysctl kernel.io_uring_disabled = {value}; \
                 set it to 0 (sysctl -w kernel.io_uring_disabled=0), or to 1 and add this \
                 process's group to kernel.io_uring_group"
            ),
            RingRefused::Seccomp { error } => write!(
                f,
                "io_uring_setup is refused by a seccomp filter ({}; /proc/self/status says \
                 \"Seccomp: 2\"); run the container with a seccomp profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register",
                io::Error::from_raw_os_error(*error)
            ),
            RingRefused::LockedMemory { limit, needed } => {
                let limit = match limit {
                    Some(bytes) => format!("{} KiB", bytes / 1024),
                    None => "unlimited".to_owned(),
                };
                write!(
                    f,
                    "no memory may be locked for another ring: a shard needs about {} KiB, and \
                     RLIMIT_MEMLOCK is {limit} for all rings of this user on the machine together; \
                     raise it (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK, or run fewer shards",
                    needed / 1024
                )
            }
            RingRefused::KernelTooOld { lacks, release } => {
                write!(f, "the kernel ({release}) lacks {lacks}; Linux 6.1 or newer has it")
            }
            RingRefused::Other { doing, error } => {
                write!(f, "{doing} failed: {}", io::Error::from_raw_os_error(*error))
            }
        }
    }
}

impl std::error::Error for RingRefused {}

impl RingRefused {
    /// Finds out why `io_uring_setup` gave an error.
    fn diagnose(error: i32) -> RingRefused {
        let filtered = limits::seccomp() == limits::Seccomp::Filter;
        match error {
            libc::EPERM => match limits::io_uring_sysctl() {
                IoUringSysctl::Restricted => RingRefused::DisabledBySysctl { value: 1 },
                IoUringSysctl::Disabled => RingRefused::DisabledBySysctl { value: 2 },
                IoUringSysctl::Allowed | IoUringSysctl::Unknown => RingRefused::Seccomp { error },
            },
            libc::ENOSYS if filtered => RingRefused::Seccomp { error },
            libc::ENOSYS => RingRefused::too_old("io_uring"),
            libc::EINVAL => RingRefused::too_old("IORING_SETUP_DEFER_TASKRUN"),
            libc::ENOMEM => RingRefused::locked_memory(),
            error => RingRefused::Other { doing: "io_uring_setup", error },
        }
    }

    /// What refused the ring, in a word: `sysctl`, `seccomp`, `memlock`, `kernel` or `other`.
    pub fn cause(&self) -> &'static str {
        match self {
            RingRefused::DisabledBySysctl { .. } => "sysctl",
            RingRefused::Seccomp { .. } => "seccomp",
            RingRefused::LockedMemory { .. } => "memlock",
            RingRefused::KernelTooOld { .. } => "kernel",
            RingRefused::Other { .. } => "other",
        }
    }

    pub(super) fn too_old(lacks: &'static str) -> RingRefused {
        RingRefused::KernelTooOld { lacks, release: limits::kernel_release() }
    }

    pub(super) fn locked_memory() -> RingRefused {
        RingRefused::LockedMemory {
            limit: limits::locked_memory().soft,
            needed: u64::from(SUBMISSIONS * 64 + COMPLETIONS * 16) + (20 << 10),
        }
    }
}

/// Makes a ring that is not enabled yet, so that it can still be restricted.
pub(super) fn build(capabilities: Capabilities) -> Result<IoUring, RingRefused> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_r_disabled()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS);
    if capabilities.no_submission_array {
        builder.setup_no_sqarray();
    }
    builder
        .build(SUBMISSIONS)
        .map_err(|error| RingRefused::diagnose(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// What a ring may be asked to do: the operations of this crate, and those of an embedder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Restrictions {
    operations: Option<Vec<u8>>,
}

impl Default for Restrictions {
    /// The operations that this crate uses, and nothing else.
    fn default() -> Restrictions {
        Restrictions {
            operations: Some(vec![
                opcode::Accept::CODE,
                opcode::Connect::CODE,
                opcode::Recv::CODE,
                opcode::Send::CODE,
                opcode::SendMsg::CODE,
                opcode::PollAdd::CODE,
                opcode::AsyncCancel::CODE,
                opcode::Close::CODE,
                opcode::MsgRingData::CODE,
            ]),
        }
    }
}

impl Restrictions {
    /// Every operation that the kernel knows.
    pub fn none() -> Restrictions {
        Restrictions { operations: None }
    }

    /// Allows an operation of the embedder's own as well, by its opcode.
    pub fn allow(mut self, opcode: u8) -> Restrictions {
        if let Some(operations) = &mut self.operations {
            operations.push(opcode);
        }
        self
    }

    /// Binds a ring to these for ever (IORING_REGISTER_RESTRICTIONS, Linux 5.10).
    pub(super) fn apply(&self, ring: &IoUring) -> io::Result<()> {
        const REGISTER_ENABLE_RINGS: u8 = 12;
        const REGISTER_RING_FDS: u8 = 20;
        const UNREGISTER_RING_FDS: u8 = 21;
        let Some(operations) = &self.operations else { return Ok(()) };
        // Those of this crate's own entries. A linked or draining entry would hold up others.
        let flags = io_uring::squeue::Flags::BUFFER_SELECT | io_uring::squeue::Flags::SKIP_SUCCESS;
        let mut restrictions: Vec<Restriction> = operations
            .iter()
            .map(|operation| Restriction::sqe_op(*operation))
            .chain([Restriction::sqe_flags_allowed(flags.bits())])
            .chain(
                [REGISTER_ENABLE_RINGS, REGISTER_RING_FDS, UNREGISTER_RING_FDS]
                    .map(Restriction::register_op),
            )
            .collect();
        ring.submitter().register_restrictions(&mut restrictions)
    }
}
