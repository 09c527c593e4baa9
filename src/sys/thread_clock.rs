//! The CPU time that a thread has used, for any thread of this process to read.
//!
//! **In**: the thread that calls. **Out**: a clock of it. **Owns** nothing.

use std::{io, mem::MaybeUninit, time::Duration};

/// The CPU-time clock of one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// The clock of the calling thread.
    ///
    /// # Errors
    ///
    /// What `pthread_getcpuclockid(3)` gives: nothing that is known for a thread that lives.
    pub(crate) fn of_this_thread() -> io::Result<ThreadClock> {
        let mut clock = 0;
        // SAFETY: the calling thread lives, and `clock` is a place for the answer.
        match unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) } {
            0 => Ok(ThreadClock(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// How much CPU time the thread has used; `None` once it has ended.
    pub(crate) fn read(self) -> Option<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: `time` is a place for the answer; a clock that is gone is an error, not undefined.
        if unsafe { libc::clock_gettime(self.0, time.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: the call has succeeded, and then it has written the time.
        let time = unsafe { time.assume_init() };
        Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use super::*;

    #[test]
    fn another_threads_time_is_read_until_it_ends() {
        let (send, receive) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            let clock = ThreadClock::of_this_thread().unwrap();
            let began = Instant::now();
            while clock.read().unwrap() < Duration::from_millis(20) {
                assert!(began.elapsed() < Duration::from_secs(20));
            }
            send.send(clock).unwrap();
            let _ = ended.recv();
        });
        let clock = receive.recv().unwrap();
        let used = clock.read().unwrap();
        assert!(used >= Duration::from_millis(20), "{used:?}");
        drop(end);
        worker.join().unwrap();
        assert_eq!(clock.read(), None);
    }
}
