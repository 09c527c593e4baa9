//! Doubly linked lists through the entries of a slab, so that an entry can leave from the middle of
//! several orders without a search and without an allocation.

use slab::Slab;

/// Where an entry stands in one list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    before: Option<u32>,
    after: Option<u32>,
}

impl Links {
    /// The one that was pushed next.
    pub(super) fn newer(self) -> Option<u32> {
        self.after
    }
}

/// A list of entries. Which one is in it only the owner of the slab knows: what is removed must be
/// in it, what is pushed must not.
#[derive(Debug)]
pub(super) struct List<T> {
    first: Option<u32>,
    last: Option<u32>,
    links: fn(&mut T) -> &mut Links,
}

impl<T> List<T> {
    pub(super) fn new(links: fn(&mut T) -> &mut Links) -> List<T> {
        List { first: None, last: None, links }
    }

    /// The one that was pushed before all others.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.first
    }

    /// The one that was pushed last.
    pub(super) fn newest(&self) -> Option<u32> {
        self.last
    }

    pub(super) fn push(&mut self, slab: &mut Slab<T>, index: u32) {
        *self.links(slab, index) = Links { before: self.last, after: None };
        match self.last.replace(index) {
            Some(last) => self.links(slab, last).after = Some(index),
            None => self.first = Some(index),
        }
    }

    pub(super) fn remove(&mut self, slab: &mut Slab<T>, index: u32) {
        let Links { before, after } = std::mem::take(self.links(slab, index));
        match before {
            Some(before) => self.links(slab, before).after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.links(slab, after).before = before,
            None => self.last = before,
        }
    }

    fn links<'s>(&self, slab: &'s mut Slab<T>, index: u32) -> &'s mut Links {
        (self.links)(&mut slab[index as usize])
    }
}
