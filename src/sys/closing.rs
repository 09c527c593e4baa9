//! Closing a listening socket without resetting a client.
//!
//! Closing resets every connection that waits in the accept queue or is in the middle of its handshake, and accepting
//! until EAGAIN first does not help the second kind. So the order is: [`stop_new_handshakes`], wait
//! [`HANDSHAKE_GRACE`], accept until EAGAIN, close. Clients that knock meanwhile get no answer at all, and knock again
//! after a second, at whoever listens then.
//!
//! **In**: listening TCP sockets. **Out**: how full the accept queue is, and the filter on or off. **Owns** nothing.

use std::{io, mem, os::fd::AsFd, os::fd::AsRawFd, time::Duration};

use socket2::{SockFilter, SockRef};

/// How long handshakes that had begun get to finish: over a loopback or a data centre network they take far less; a
/// client farther away than this may still be reset.
pub(crate) const HANDSHAKE_GRACE: Duration = Duration::from_millis(20);

const TCP_FLAGS_OFFSET: u32 = 13;
const FIN_SYN_RST_ACK: u32 = 0x17;
const SYN: u32 = 0x02;
const DROP: u32 = 0;
const PASS_WHOLE: u32 = u32::MAX;

/// Drops segments that would begin a handshake (SYN alone) and lets everything else through, so that handshakes under
/// way complete.
///
/// The filter lies on the socket, not on this descriptor of it: every process that shares an inherited socket loses new
/// connections with it. [`resume_new_handshakes`] takes it away. Connections accepted while it is there inherit it,
/// where it does no harm: an established connection has no use for a SYN.
///
/// (SO_ATTACH_FILTER in socket(7); a TCP socket's filter sees the segment from the TCP header on, `tcp_filter` in
/// net/ipv4/tcp_ipv4.c; for the ACK that ends a handshake the kernel asks the listener's filter too.)
///
/// # Errors
/// ENOMEM where the filter exceeds `net.core.optmem_max`, EPERM where someone locked the socket's filter.
pub(crate) fn stop_new_handshakes(listener: impl AsFd) -> io::Result<()> {
    let instruction = |code: u32, if_true, if_false, operand| {
        SockFilter::new(code as u16, if_true, if_false, operand)
    };
    let program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, TCP_FLAGS_OFFSET),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, FIN_SYN_RST_ACK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, DROP),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, PASS_WHOLE),
    ];
    SockRef::from(&listener).attach_filter(&program)
}

/// Takes the filter of [`stop_new_handshakes`] away again.
///
/// # Errors
/// ENOENT where there is none.
pub(crate) fn resume_new_handshakes(listener: impl AsFd) -> io::Result<()> {
    SockRef::from(&listener).detach_filter()
}

/// Connections that wait to be accepted, and how many may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptQueue {
    pub(crate) length: u32,
    /// The backlog after `net.core.somaxconn` cut it.
    pub(crate) capacity: u32,
}

/// Asks a listening TCP socket for its accept queue (TCP_INFO; for a listener, `tcp_get_info` in net/ipv4/tcp.c reports
/// the queue in `tcpi_unacked` and the backlog in `tcpi_sacked`).
///
/// # Errors
/// EOPNOTSUPP or ENOPROTOOPT for a socket that is not TCP.
pub(crate) fn accept_queue(listener: impl AsFd) -> io::Result<AcceptQueue> {
    // SAFETY: the structure is plain integers, for which all zero bytes are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` is writable for `length` bytes; the kernel writes at most that many and says in `length` how many.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(AcceptQueue { length: info.tcpi_unacked, capacity: info.tcpi_sacked })
}

#[cfg(test)]
mod tests;
