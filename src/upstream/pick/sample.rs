//! Drawing by weight, at a cost that does not depend on how many there are.
//!
//! The alias method (Walker 1974, Vose 1991): a column for each endpoint, all as high as the mean
//! weight; one heavier than the mean fills up the columns of those that are lighter. A draw is a
//! column and a height in it.

use fastrand::Rng;

/// How often a draw is repeated that came to one which may not be chosen, before all are looked
/// at. A quarter of them unavailable leaves 1 draw in 65,000 to that.
const DRAWS: usize = 8;

/// A prepared distribution.
#[derive(Debug)]
pub(crate) struct Sampler {
    weights: Box<[u32]>,
    columns: Box<[Column]>,
    even: bool,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Up to this height, in 2^-32 of the column, the column's own; above it the other's.
    own: u32,
    other: u32,
}

impl Sampler {
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Sampler {
        let weights: Box<[u32]> = weights.collect();
        let mean = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>()
            / weights.len().max(1) as f64;
        // What each has left, in columns.
        let mut left: Vec<f64> = weights.iter().map(|&weight| f64::from(weight) / mean).collect();
        let mut columns: Box<[Column]> =
            (0..weights.len()).map(|index| Column { own: u32::MAX, other: index as u32 }).collect();
        let (mut light, mut heavy): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&index| left[index] < 1.0);
        while let (Some(&from), Some(into)) = (heavy.last(), light.pop()) {
            let own = (left[into] * f64::from(u32::MAX)) as u32;
            columns[into] = Column { own, other: from as u32 };
            left[from] -= 1.0 - left[into];
            if left[from] < 1.0 {
                heavy.pop();
                light.push(from);
            }
        }
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Sampler { weights, columns, even }
    }

    /// Whether all weigh the same.
    pub(crate) fn is_even(&self) -> bool {
        self.even
    }

    /// Draws one for which `may_be_chosen` holds, by weight among those.
    pub(crate) fn sample(
        &self,
        random: &mut Rng,
        may_be_chosen: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let drawn = self.draw(random);
            if may_be_chosen(drawn) {
                return Some(drawn);
            }
        }
        self.search(random, may_be_chosen)
    }

    fn draw(&self, random: &mut Rng) -> usize {
        let bits = random.u64(..);
        let index = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let column = self.columns[index];
        match bits as u32 <= column.own {
            true => index,
            false => column.other as usize,
        }
    }

    /// Draws among those that may be chosen only, by looking at all.
    fn search(&self, random: &mut Rng, may_be_chosen: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = || {
            let all = self.weights.iter().enumerate();
            all.filter(|(index, _)| may_be_chosen(*index))
        };
        let total: u64 = candidates().map(|(_, &weight)| u64::from(weight)).sum();
        if total == 0 {
            return None;
        }
        let mut rest = random.u64(..total);
        // Availability may change between the two passes: then the last one that was seen.
        let mut last = None;
        for (index, &weight) in candidates() {
            last = Some(index);
            match rest.checked_sub(u64::from(weight)) {
                Some(less) => rest = less,
                None => break,
            }
        }
        last
    }
}

#[cfg(all(test, not(loom)))]
impl Sampler {
    /// How much of the columns is each one's, in columns.
    pub(super) fn held(&self) -> Vec<f64> {
        let mut held = vec![0.0; self.columns.len()];
        for (index, column) in self.columns.iter().enumerate() {
            let own = f64::from(column.own) / f64::from(u32::MAX);
            held[index] += own;
            held[column.other as usize] += 1.0 - own;
        }
        held
    }
}
