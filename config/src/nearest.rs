//! What was meant by a word that is not known.

/// `; did you mean WORD?`, or nothing if no word is near.
pub(crate) fn did_you_mean<'w>(wrong: &str, words: impl IntoIterator<Item = &'w str>) -> String {
    nearest(wrong, words).map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

/// The known word that needs the fewest changes, if these are few; the first in the alphabet of several.
pub(crate) fn nearest<'w>(wrong: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let changes = |word| strsim::damerau_levenshtein(wrong, word);
    let (changes, word) = words.into_iter().map(|word| (changes(word), word)).min()?;
    (changes <= wrong.chars().count().div_ceil(3)).then_some(word)
}
