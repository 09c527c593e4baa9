//! How far the peer of a connection has taken what was sent to it.
//!
//! **In**: a connected socket. **Out**: a [`Delivery`]. **Never** called for each message: a timeout that has run out
//! asks.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
};

/// What a peer has taken, at the moment of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Another number whenever the peer has taken more; what it is says nothing.
    pub(crate) mark: u64,
    /// Whether some of what was sent has not been taken.
    pub(crate) outstanding: bool,
}

/// Asks the kernel how far a peer is.
///
/// Of TCP it tells what the peer has acknowledged (`tcpi_bytes_acked` in TCP_INFO, Linux 4.1). That does not grow by
/// answers to keepalive or window probes, which come from a peer that reads nothing as well. Of a Unix socket it tells
/// how much lies unread (SIOCOUTQ in unix(7)).
///
/// # Errors
/// ENOTCONN or EINVAL for a socket that is not connected; what `ioctl` or `getsockopt` give.
pub(crate) fn delivery(socket: impl AsFd) -> io::Result<Delivery> {
    match tcp_info(&socket) {
        Ok(info) => Ok(Delivery {
            mark: info.tcpi_bytes_acked,
            outstanding: info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
        }),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT)) =>
        {
            let unread = unread(&socket)?;
            Ok(Delivery { mark: unread, outstanding: unread > 0 })
        }
        Err(error) => Err(error),
    }
}

/// TCP_INFO (tcp(7)). Fields that this kernel does not have are 0.
///
/// # Errors
/// EOPNOTSUPP or ENOPROTOOPT for a socket that is not TCP.
pub(super) fn tcp_info(socket: impl AsFd) -> io::Result<libc::tcp_info> {
    // SAFETY: the structure is plain integers, for which all zero bytes are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` is writable for `length` bytes; the kernel writes at most that many and says in `length` how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

/// Bytes in the send queue, as the kernel counts them.
fn unread(socket: impl AsFd) -> io::Result<u64> {
    let mut unread: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (of which TIOCOUTQ is the older name) writes one integer to the address, which is there for the
    // call.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(unread).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::unix::net::UnixStream,
        thread,
        time::Duration,
    };

    use super::*;

    /// Sends until nothing more is taken.
    fn fill(stream: &mut impl Write) {
        while stream.write(&[1; 4096]).is_ok() {}
    }

    /// A full connection, before and after its peer has read everything that it holds.
    fn before_and_after(
        mut sender: impl AsFd + Write,
        mut receiver: impl Read,
    ) -> (Delivery, Delivery) {
        assert!(!delivery(&sender).unwrap().outstanding, "nothing was sent");
        fill(&mut sender);
        // The last acknowledgements.
        thread::sleep(Duration::from_millis(100));
        let full = delivery(&sender).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(delivery(&sender).unwrap(), full, "nobody reads");
        let mut buffer = vec![0; 1 << 20];
        while receiver.read(&mut buffer).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
        (full, delivery(&sender).unwrap())
    }

    #[test]
    fn a_tcp_peer_that_reads_is_seen_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sender = listener.accept().unwrap().0;
        receiver.set_nonblocking(true).unwrap();
        sender.set_nonblocking(true).unwrap();
        let (full, empty) = before_and_after(sender, receiver);
        assert!(full.outstanding && !empty.outstanding);
        assert_ne!(full.mark, empty.mark);
    }

    #[test]
    fn a_unix_peer_that_reads_is_seen_to() {
        let (sender, receiver) = UnixStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        sender.set_nonblocking(true).unwrap();
        let (full, empty) = before_and_after(sender, receiver);
        assert!(full.outstanding && !empty.outstanding);
        assert_ne!(full.mark, empty.mark);
    }
}
