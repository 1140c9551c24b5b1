//! Patterns: text in which each `*` stands for any number of any characters.

/// A pattern, cut at its `*` once so that matching allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What the text begins with; all of it, if there is no `*`.
    head: Box<str>,
    /// What follows each `*`.
    rest: Box<[Box<str>]>,
}

impl Pattern {
    /// Every text is one.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(Box::from);
        let head = parts.next().unwrap_or_default();
        Self { head, rest: parts.collect() }
    }

    /// Only this text fits; a `*` in it is a character as any other.
    pub fn exactly(text: &str) -> Self {
        Self { head: text.into(), rest: Box::default() }
    }

    /// What begins with this text fits; a `*` in it is a character as any other.
    pub fn beginning(text: &str) -> Self {
        Self { head: text.into(), rest: [Box::default()].into() }
    }

    /// What ends with this text fits; a `*` in it is a character as any other.
    pub fn ending(text: &str) -> Self {
        Self { head: Box::default(), rest: [text.into()].into() }
    }

    /// Whether all of `text` fits.
    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        let Some((tail, middle)) = self.rest.split_last() else {
            return text.len() == self.head.len() && begins(text, &self.head);
        };
        if !begins(text, &self.head) {
            return false;
        }
        // The earliest place for each part leaves the most room for those that follow.
        let left = middle.iter().try_fold(text.get(self.head.len()..).unwrap_or_default(), |left, part| {
            let start = left.find(&**part)?;
            left.get(start + part.len()..)
        });
        left.is_some_and(|left| ends(left, tail))
    }
}

// What is compared here is short and mostly differs in its first bytes: a loop is done before `memcmp` has begun.

fn begins(text: &str, head: &str) -> bool {
    text.len() >= head.len() && head.bytes().zip(text.bytes()).all(|(one, other)| one == other)
}

fn ends(text: &str, tail: &str) -> bool {
    text.len() >= tail.len() && tail.bytes().rev().zip(text.bytes().rev()).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by trying every way.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
            Some((first, rest)) => text.first() == Some(first) && fits(rest, &text[1..]),
        }
    }

    /// All texts of up to `length` of these characters.
    fn texts(alphabet: &[char], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let longer: Vec<String> = all[from..]
                .iter()
                .flat_map(|text| alphabet.iter().map(move |character| format!("{text}{character}")))
                .collect();
            from = all.len();
            all.extend(longer);
        }
        all
    }

    #[test]
    fn every_short_pattern_matches_exactly_what_its_definition_says() {
        let texts_to_match = texts(&['a', 'ä'], 5);
        for pattern in texts(&['a', 'ä', '*'], 5) {
            let compiled = Pattern::new(&pattern);
            let characters: Vec<char> = pattern.chars().collect();
            for text in &texts_to_match {
                let expected = fits(&characters, &text.chars().collect::<Vec<_>>());
                assert_eq!(compiled.matches(text), expected, "{pattern} on {text}");
            }
        }
    }

    #[test]
    fn nothing_but_the_asterisk_is_special() {
        assert!(Pattern::new("a?[.]\\").matches("a?[.]\\"));
        assert!(!Pattern::new("a?").matches("ab"));
        assert!(!Pattern::new("ABC*").matches("abcd"));
        let fits = |pattern: Pattern| ["a*", "a*b", "ba*", "ab", "a"].map(|text| pattern.matches(text));
        assert_eq!(fits(Pattern::exactly("a*")), [true, false, false, false, false]);
        assert_eq!(fits(Pattern::beginning("a*")), [true, true, false, false, false]);
        assert_eq!(fits(Pattern::ending("a*")), [true, false, true, false, false]);
    }
}
