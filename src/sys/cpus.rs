//! The CPUs that a thread may run on.
//!
//! **In**: the calling thread's affinity mask, or a CPU list as a user writes it. **Out**: [`CpuSet`]s, and threads
//! that are pinned and named. **Never** reads `/sys/devices/system/cpu`: in a container that is the whole node.

use std::{error::Error, fmt, io};

/// Numbers of CPUs, ascending, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet(Vec<usize>);

impl CpuSet {
    pub(crate) fn as_slice(&self) -> &[usize] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, cpu: usize) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuSet(cpus)
    }
}

/// Prints the set the way it is written in a config: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// Highest CPU number that a list may name; far above any machine, low enough that `0-99999999999` costs nothing.
pub(crate) const MAX_CPU: usize = 65_535;

/// Why a CPU list such as `0-3,8` was refused. Every variant carries the part that is wrong, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CpuListError {
    Empty,
    NotANumber(String),
    TooLarge(String),
    Backwards(String),
    Twice(usize),
}

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                write!(f, "the CPU list is empty; write numbers and ranges such as 0-3,8")
            }
            Self::NotANumber(part) => {
                write!(
                    f,
                    "`{part}` in the CPU list is neither a CPU number nor a range such as 0-3"
                )
            }
            Self::TooLarge(part) => {
                write!(f, "`{part}` in the CPU list is above the highest CPU number, {MAX_CPU}")
            }
            Self::Backwards(part) => {
                write!(f, "the range `{part}` in the CPU list ends before it begins")
            }
            Self::Twice(cpu) => write!(f, "CPU {cpu} stands twice in the CPU list"),
        }
    }
}

impl Error for CpuListError {}

/// Parses numbers and inclusive ranges, separated by commas: `0-3,8`. Spaces around the parts are ignored.
pub(crate) fn parse_cpu_list(list: &str) -> Result<CpuSet, CpuListError> {
    if list.trim().is_empty() {
        return Err(CpuListError::Empty);
    }
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first, part)?, parse_cpu(last, part)?);
        if last < first {
            return Err(CpuListError::Backwards(part.to_owned()));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CpuListError::Twice(pair[0])),
        None => Ok(CpuSet(cpus)),
    }
}

fn parse_cpu(number: &str, part: &str) -> Result<usize, CpuListError> {
    let number = number.trim();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CpuListError::NotANumber(part.to_owned()));
    }
    match number.parse() {
        Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
        _ => Err(CpuListError::TooLarge(part.to_owned())),
    }
}

/// How many of `mask`'s CPUs this process may keep busy: the mask, cut by the cgroup CPU quota
/// (see [`cpu_quota`](super::cpu_quota)) rounded up. At least 1.
pub(crate) fn usable(mask: &CpuSet, quota: Option<usize>) -> usize {
    quota.map_or(mask.len(), |quota| quota.min(mask.len())).max(1)
}

const WORD_BITS: usize = usize::BITS as usize;

/// The affinity mask of the calling thread (sched_getaffinity(2)).
pub(crate) fn affinity() -> io::Result<CpuSet> {
    // The kernel answers EINVAL while the buffer is shorter than its own mask, whose length nothing tells.
    let mut words = vec![0usize; 1024 / WORD_BITS];
    loop {
        // SAFETY: `words` is writable for the `size_of_val` bytes that are passed as its length; the kernel writes at
        // most that many, and the C type only names the same array of machine words. Thread 0 is the caller.
        let result = unsafe {
            libc::sched_getaffinity(0, size_of_val(words.as_slice()), words.as_mut_ptr().cast())
        };
        if result == 0 {
            return Ok(from_words(&words));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) || words.len() * WORD_BITS > MAX_CPU {
            return Err(error);
        }
        words.resize(words.len() * 2, 0);
    }
}

/// Restricts the calling thread to `cpus`; the threads that it starts from then on inherit it (sched_setaffinity(2)).
///
/// # Errors
/// `InvalidInput` (EINVAL) where none of `cpus` exists or is allowed by the cgroup's cpuset.
pub(crate) fn restrict_current_thread(cpus: &CpuSet) -> io::Result<()> {
    let words = to_words(cpus);
    // SAFETY: `words` is readable for the `size_of_val` bytes that are passed as its length, and the kernel only reads.
    let result =
        unsafe { libc::sched_setaffinity(0, size_of_val(words.as_slice()), words.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the calling thread on `cpu`. Errors as [`restrict_current_thread`].
pub(crate) fn pin_current_thread(cpu: usize) -> io::Result<()> {
    restrict_current_thread(&CpuSet(vec![cpu]))
}

fn from_words(words: &[usize]) -> CpuSet {
    let bits = (0..words.len() * WORD_BITS)
        .filter(|cpu| words[cpu / WORD_BITS] & (1 << (cpu % WORD_BITS)) != 0);
    CpuSet(bits.collect())
}

fn to_words(cpus: &CpuSet) -> Vec<usize> {
    let highest = cpus.0.last().copied().unwrap_or(0);
    let mut words = vec![0usize; highest / WORD_BITS + 1];
    for cpu in &cpus.0 {
        words[cpu / WORD_BITS] |= 1 << (cpu % WORD_BITS);
    }
    words
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        cpus.iter().copied().collect()
    }

    #[test]
    fn lists_of_cpus_parse() {
        for (list, cpus) in [
            ("0", vec![0]),
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            (" 5 , 1 - 2 ", vec![1, 2, 5]),
            ("65535", vec![65_535]),
            ("007", vec![7]),
        ] {
            assert_eq!(parse_cpu_list(list), Ok(set(&cpus)), "{list}");
        }
    }

    #[test]
    fn bad_lists_name_the_bad_part() {
        use CpuListError::*;
        for (list, error) in [
            ("", Empty),
            ("  ", Empty),
            (",", NotANumber("".into())),
            ("0,,1", NotANumber("".into())),
            ("1-", NotANumber("1-".into())),
            ("-1", NotANumber("-1".into())),
            ("+1", NotANumber("+1".into())),
            ("1-2-3", NotANumber("1-2-3".into())),
            ("0,all", NotANumber("all".into())),
            ("3-1", Backwards("3-1".into())),
            ("0,65536", TooLarge("65536".into())),
            ("0-99999999999999999999999", TooLarge("0-99999999999999999999999".into())),
            ("0-3,2", Twice(2)),
        ] {
            assert_eq!(parse_cpu_list(list), Err(error), "{list}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_set_parses_to_itself(cpus in btree_set(0..=MAX_CPU, 1..40)) {
            let cpus: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(parse_cpu_list(&cpus.to_string()), Ok(cpus));
        }

        #[test]
        fn words_and_sets_convert_both_ways(cpus in btree_set(0..5_000usize, 0..40)) {
            let cpus: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(from_words(&to_words(&cpus)), cpus);
        }

        #[test]
        fn no_list_panics(list in "[0-9,\\- ]{0,12}") {
            let _ = parse_cpu_list(&list);
        }
    }

    #[test]
    fn the_quota_cuts_the_mask_and_one_is_left() {
        for (mask, quota, expected) in
            [(8, None, 8), (8, Some(2), 2), (2, Some(8), 2), (4, Some(0), 1), (0, None, 1)]
        {
            let mask: CpuSet = (0..mask).collect();
            assert_eq!(usable(&mask, quota), expected, "{mask} {quota:?}");
        }
    }

    #[test]
    fn a_pinned_thread_stays_on_its_cpu_and_others_do_not_follow() {
        let before = affinity().unwrap();
        let cpu = *before.as_slice().last().unwrap();
        let pinned = thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            affinity().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), set(&[cpu]));
        assert_eq!(affinity().unwrap(), before);
    }

    #[test]
    fn pinning_to_a_cpu_that_does_not_exist_is_an_error() {
        let result = thread::spawn(|| pin_current_thread(MAX_CPU)).join().unwrap();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
