//! Other threads: what they do at a time of the virtual clock, and the doorbell that they ring.
//!
//! Each act runs on a real thread of its own, which the simulated kernel waits for: it is another
//! thread to everything that asks, and happens at the same moment in every run.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Simulation, World, kernel::Event};
use crate::ring::driver::{Completion, Doorbell, Nanoseconds, Token};

#[derive(Default)]
pub(super) struct Bell(AtomicBool);

impl Doorbell for Bell {
    fn ring(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

/// What another thread does.
pub(super) struct Act(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Act")
    }
}

impl World {
    /// Another thread does this at that time, if the driver is there until then.
    pub(crate) fn elsewhere(&self, at: Nanoseconds, act: impl FnOnce() + Send + 'static) {
        self.0.borrow_mut().schedule(at, Event::Elsewhere { act: Act(Box::new(act)) });
    }
}

impl Simulation {
    pub(super) fn act(&mut self, act: Act) {
        if std::thread::spawn(act.0).join().is_err() {
            self.violation("another thread panicked".to_owned());
        }
        self.hear();
    }

    /// If the doorbell was rung, lets that arrive soon.
    pub(super) fn hear(&mut self) {
        if self.bell.0.swap(false, Ordering::AcqRel) {
            let at = self.soon();
            self.schedule(at, Event::Doorbell);
        }
    }

    pub(super) fn doorbell_arrives(&mut self) {
        let token = Token::DOORBELL;
        self.ready.push_back(Completion { token, result: 0, buffer: None, more: false });
    }
}

pub(super) fn bell() -> Arc<Bell> {
    Arc::default()
}
