//! Parts of a submission queue entry (`struct io_uring_sqe` in include/uapi/linux/io_uring.h) that the
//! `io-uring` crate does not name or does not tell.

use io_uring::squeue;

/// The bytes of an entry, for the fields that the `io-uring` crate does not name.
fn entry_bytes(entry: &mut squeue::Entry) -> &mut [u8; 64] {
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is the kernel's io_uring_sqe, 64 bytes of plain integers (`repr(C)`), for
    // which any bytes are valid, and the borrow is exclusive.
    unsafe { &mut *std::ptr::from_mut(entry).cast() }
}

/// Lets a multishot receive end after `limit` bytes; 0 is no limit (Linux 6.17: `sqe->optlen`).
pub(super) fn with_receive_limit(mut entry: squeue::Entry, limit: u32) -> squeue::Entry {
    if limit > 0 {
        entry_bytes(&mut entry)[44..48].copy_from_slice(&limit.to_ne_bytes());
    }
    entry
}

/// Waits for data before the first attempt to receive (IORING_RECVSEND_POLL_FIRST in
/// `sqe->ioprio`).
pub(super) fn with_poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    const POLL_FIRST: u8 = 1;
    entry_bytes(&mut entry)[if cfg!(target_endian = "little") { 2 } else { 3 }] |= POLL_FIRST;
    entry
}

/// The flag of an entry that would tie it to other entries of the ring, or let it take their buffers
/// or its own completion, if it has one.
pub(in crate::ring) fn ties_to_others(entry: &mut squeue::Entry) -> Option<&'static str> {
    const FLAGS_OFFSET: usize = 1;
    let flags = squeue::Flags::from_bits_retain(entry_bytes(entry)[FLAGS_OFFSET]);
    let names = [
        (squeue::Flags::IO_LINK, "IOSQE_IO_LINK"),
        (squeue::Flags::IO_HARDLINK, "IOSQE_IO_HARDLINK"),
        (squeue::Flags::IO_DRAIN, "IOSQE_IO_DRAIN"),
        (squeue::Flags::BUFFER_SELECT, "IOSQE_BUFFER_SELECT"),
        (squeue::Flags::SKIP_SUCCESS, "IOSQE_CQE_SKIP_SUCCESS"),
    ];
    names.into_iter().find(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name)
}
