//! A process in which io_uring is refused, as by the default profiles of container runtimes.
#![allow(unsafe_code, reason = "a seccomp filter has no safe wrapper among the dependencies")]

use std::io;

/// Installs a seccomp filter that answers io_uring_setup(2) with this error number, for this thread
/// and all that it starts. Between fork and exec it may be called: it allocates nothing.
pub(crate) fn refuse_io_uring(errno: i32) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const SKIP_UNLESS_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = [
        // The number of the system call is the first field of `seccomp_data`.
        line(LOAD, 0, 0),
        line(SKIP_UNLESS_EQUAL, 1, libc::SYS_io_uring_setup as u32),
        line(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        line(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the program, which lives until the call returns, and checks it.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }
        != 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
