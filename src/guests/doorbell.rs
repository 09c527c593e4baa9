//! A file descriptor as a waker: for loops that wait in poll(2), epoll or a ring of their own.
//!
//! *In:* wake-ups, from any thread. *Out:* an eventfd(2) that is readable from the first of them
//! until it is taken note of. *Owns:* the descriptor. *Never:* waits.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use rustix::event::{EventfdFlags, eventfd};

pub(super) struct Doorbell {
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    descriptor: OwnedFd,
    /// Rung and not taken note of: ringing again would tell nothing new.
    rung: AtomicBool,
}

impl Doorbell {
    pub(super) fn new() -> io::Result<Doorbell> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Arc::new(Bell { descriptor, rung: AtomicBool::new(false) });
        Ok(Doorbell { waker: Waker::from(Arc::clone(&bell)), bell })
    }

    /// What rings it.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Takes note: it is silent until it is rung again. To be called before looking for what it was
    /// rung for, so that what comes meanwhile rings.
    pub(super) fn take_note(&self) {
        if self.bell.rung.swap(false, SeqCst) {
            // Empty only while somebody is between setting the flag and writing: then it rings once
            // too often.
            let _ = rustix::io::read(&self.bell.descriptor, &mut [0; 8]);
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.descriptor.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, SeqCst) {
            // It cannot be full: it is read before it is rung again.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(doorbell: &Doorbell) -> bool {
        let mut descriptors = [PollFd::new(doorbell, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn it_is_readable_from_the_first_ring_until_it_is_taken_note_of() {
        let doorbell = Doorbell::new().unwrap();
        assert!(!is_readable(&doorbell));
        for _ in 0..3 {
            doorbell.waker().wake_by_ref();
            assert!(is_readable(&doorbell));
        }
        doorbell.take_note();
        assert!(!is_readable(&doorbell), "three rings are one");
        doorbell.waker().wake_by_ref();
        assert!(is_readable(&doorbell));
    }
}
