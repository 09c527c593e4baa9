//! Where lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsFd,
    path::PathBuf,
};

/// Takes lines on the log's own thread, where it may block: only lines are held up by it, and
/// dropped once the queues are full.
///
/// Also implemented for closures that take whole batches: `|lines: &[u8]| { …; Ok(()) }`.
pub trait AccessLogSink: Send + 'static {
    /// Takes lines, or the beginning of them, and returns how many bytes it took. What it did not
    /// take is offered again, first. Every line ends with `\n`.
    ///
    /// # Errors
    ///
    /// When it took nothing. It is asked again after a while, with the same lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// Opens anew what it writes to, since the old one was moved away. A line that was taken in part
    /// is offered once more as a whole afterwards.
    ///
    /// # Errors
    ///
    /// When it cannot; it goes on with the old one then.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&[u8]) -> io::Result<()> + Send + 'static> AccessLogSink for F {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self(lines).map(|()| lines.len())
    }
}

/// A file that is only appended to, so that others may write, move and truncate it meanwhile.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    file: File,
}

impl Appended {
    pub(super) fn open(path: PathBuf) -> io::Result<Appended> {
        let file = open(&path)?;
        Ok(Appended { path, file })
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl AccessLogSink for Appended {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.file.write(lines)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }
}

/// The process's standard output, past the lock and buffer of `std::io::stdout`, which would hold
/// others up.
#[derive(Debug)]
pub(super) struct StandardOutput(File);

impl StandardOutput {
    pub(super) fn new() -> io::Result<StandardOutput> {
        Ok(StandardOutput(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl AccessLogSink for StandardOutput {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.write(lines)
    }
}
