//! The body of a request as far as it was sent, to be sent again.

use std::cell::{Cell, Ref, RefCell};

/// What of a body is kept. One direction of an exchange fills it while the other asks whether it is
/// all there.
#[derive(Default)]
pub(super) struct Replay {
    kept: RefCell<Vec<u8>>,
    keeps: Cell<bool>,
    lost: Cell<bool>,
}

impl Replay {
    /// So much is kept, in bytes; a longer body is sent once.
    const MOST: usize = 16 << 10;

    /// A request begins, whose body is to be kept if `keeps`.
    pub(super) fn begin(&self, keeps: bool) {
        self.kept.borrow_mut().clear();
        self.keeps.set(keeps);
        self.lost.set(false);
    }

    /// Whether all that was taken from the client can be sent again.
    pub(super) fn is_complete(&self) -> bool {
        !self.lost.get()
    }

    /// What was kept.
    pub(super) fn kept(&self) -> Ref<'_, Vec<u8>> {
        self.kept.borrow()
    }

    /// These bytes were taken from the client.
    pub(super) fn see(&self, bytes: &[u8]) {
        let mut kept = self.kept.borrow_mut();
        if self.keeps.get() && kept.len() + bytes.len() <= Self::MOST {
            kept.extend_from_slice(bytes);
        } else {
            self.keeps.set(false);
            self.lost.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_too_long_or_not_wanted_is_lost() {
        let replay = Replay::default();
        replay.begin(true);
        replay.see(&[1; Replay::MOST]);
        assert!(replay.is_complete());
        assert_eq!(replay.kept().len(), Replay::MOST);
        replay.see(&[1]);
        assert!(!replay.is_complete());
        replay.begin(false);
        assert!(replay.is_complete() && replay.kept().is_empty(), "nothing was taken yet");
        replay.see(&[1]);
        assert!(!replay.is_complete());
    }
}
