//! What somebody meant by a misspelt word. In: the word and what would have been right. Out: the
//! closest of those, if it is close enough to be more than a guess.

/// The candidate with the fewest edits between it and `word` (a swap of neighbours is one edit); none
/// if more than a third of the word would change.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // The measure takes time and memory in the product of the lengths, and no key is this long.
    if word.len() > 128 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 255)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        // More than half of the candidate changed is another word.
        .filter(|(edits, candidate)| *edits <= limit && 2 * *edits <= candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?`, or nothing.
pub(super) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    nearest(word, candidates).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
