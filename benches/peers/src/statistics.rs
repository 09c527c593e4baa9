//! The median of a sample, and a confidence interval for it that assumes no distribution.

/// A median with its confidence interval of 95 % at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    /// Absent below six values: no pair of them encloses the median that surely.
    pub(crate) interval: Option<(f64, f64)>,
}

/// The median of `values`.
///
/// The interval lies between two order statistics. A value falls below the true median with
/// probability 1/2, so the number that does is binomial, and the k-th smallest and k-th largest
/// enclose the median unless fewer than k values fall on one side of it: 2 P(B(n, 1/2) < k).
///
/// # Panics
/// On an empty slice, and on NaN.
pub(crate) fn median(values: &[f64]) -> Median {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("values are numbers"));
    let middle = sorted.len() / 2;
    let value = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    let interval = enclosing_rank(sorted.len()).map(|k| (sorted[k - 1], sorted[sorted.len() - k]));
    Median { value, interval }
}

/// The median of the ratios of values with the same index: of runs of the same round, so that what
/// the machine did meanwhile cancels out.
///
/// # Panics
/// As [`median`].
pub(crate) fn paired_ratio(numerators: &[f64], denominators: &[f64]) -> Median {
    let pairs = numerators.iter().zip(denominators);
    median(&pairs.map(|(numerator, denominator)| numerator / denominator).collect::<Vec<_>>())
}

/// The largest k with 2 P(B(n, 1/2) < k) <= 0.05, if there is one.
fn enclosing_rank(n: usize) -> Option<usize> {
    let mut mass = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut below = 0.0;
    for k in 0..=n / 2 {
        below += mass;
        if 2.0 * below > 0.05 {
            return (k > 0).then_some(k);
        }
        mass *= (n - k) as f64 / (k + 1) as f64;
    }
    None
}

/// The largest of some values over their mean; 1 where there is nothing to compare.
pub(crate) fn largest_over_mean(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter().copied().fold(0.0, f64::max) * values.len() as f64 / sum
    } else {
        1.0
    }
}
