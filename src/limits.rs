//! What the system allows this process, for programs that want to know or to raise it before they
//! start a proxy.

pub use crate::sys::limits::{
    Capabilities, Limit, Raised, capabilities_of_thread, open_file_count, open_files,
    raise_open_files,
};
