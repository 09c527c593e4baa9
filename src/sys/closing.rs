//! Closing a listening socket without resetting a client.
//!
//! Closing resets every connection that waits in the accept queue or is in the middle of its handshake, and accepting
//! until EAGAIN first does not help the second kind. So the order is: [`stop_new_handshakes`], wait
//! [`HANDSHAKE_GRACE`], accept until EAGAIN, close.
//!
//! **In**: listening TCP sockets. **Out**: how full the accept queue is, and new handshakes stopped or resumed. **Owns**
//! nothing.

use std::{io, num::NonZeroU32, os::fd::AsFd, time::Duration};

use socket2::{SockFilter, SockRef};

use super::delivery::tcp_info;

/// How long handshakes that had begun get to finish: over a loopback or a data centre network they take far less; a
/// client farther away than this may still be reset.
pub(crate) const HANDSHAKE_GRACE: Duration = Duration::from_millis(20);

const TCP_FLAGS_OFFSET: u32 = 13;
const FIN_SYN_RST_ACK: u32 = 0x17;
const SYN: u32 = 0x02;
const DROP: u32 = 0;
const PASS_WHOLE: u32 = u32::MAX;

const NO_INTERFACE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX as u32);

/// What becomes of a client that knocks after [`stop_new_handshakes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewHandshakes {
    /// It hears nothing, and knocks again after a second, at whoever listens then.
    Dropped,
    /// It is refused at once, as by a closed port, or reaches another socket that listens on the same address.
    Refused,
}

/// Stops handshakes from beginning, and lets those under way complete.
///
/// A packet filter on the socket drops new ones. Where the kernel wants a capability for that, the socket is bound to
/// an interface that does not exist, which needs none and refuses new ones; connections that have begun keep the
/// interface that they came by.
///
/// Either lies on the socket, not on this descriptor of it: every process that shares an inherited socket loses new
/// connections with it.
///
/// # Errors
/// That of the second way, where both fail: EPERM where the socket had been bound to an interface before and the
/// process is without CAP_NET_RAW.
pub(crate) fn stop_new_handshakes(listener: impl AsFd) -> io::Result<NewHandshakes> {
    let listener = SockRef::from(&listener);
    match drop_new_handshakes(&listener) {
        Ok(()) => Ok(NewHandshakes::Dropped),
        Err(_) => refuse_new_handshakes(&listener).map(|()| NewHandshakes::Refused),
    }
}

/// Undoes what [`stop_new_handshakes`] did.
///
/// # Errors
/// EPERM after [`NewHandshakes::Refused`], for a process without CAP_NET_RAW: it can only close the socket.
#[cfg(test)]
pub(crate) fn resume_new_handshakes(listener: impl AsFd, stopped: NewHandshakes) -> io::Result<()> {
    let listener = SockRef::from(&listener);
    match stopped {
        NewHandshakes::Dropped => listener.detach_filter(),
        NewHandshakes::Refused => listener.bind_device_by_index_v4(None),
    }
}

/// Attaches a filter that drops segments with SYN alone (SO_ATTACH_FILTER in socket(7)).
///
/// A TCP socket's filter sees a segment from the TCP header on, and a listener's also sees the ACK that ends a
/// handshake (`tcp_filter` in net/ipv4/tcp_ipv4.c). Accepted connections inherit it, where it does no harm: an
/// established connection has no use for a SYN.
fn drop_new_handshakes(listener: &SockRef<'_>) -> io::Result<()> {
    let instruction = |code: u32, if_true, if_false, operand| {
        SockFilter::new(code as u16, if_true, if_false, operand)
    };
    listener.attach_filter(&[
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, TCP_FLAGS_OFFSET),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, FIN_SYN_RST_ACK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, DROP),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, PASS_WHOLE),
    ])
}

/// Binds the listener to an interface that does not exist (SO_BINDTOIFINDEX takes any index; `inet_lookup_listener` in
/// net/ipv4/inet_hashtables.c compares it for each SYN).
fn refuse_new_handshakes(listener: &SockRef<'_>) -> io::Result<()> {
    listener.bind_device_by_index_v4(NO_INTERFACE)
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
    let info = tcp_info(listener)?;
    Ok(AcceptQueue { length: info.tcpi_unacked, capacity: info.tcpi_sacked })
}

#[cfg(test)]
mod tests;
