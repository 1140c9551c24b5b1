//! Pages of a bucket's objects.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::Object;

/// Which objects a page shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Only keys that begin so.
    pub prefix: &'a str,
    /// Keys that have this after the prefix are shown as one, cut after it; empty: none.
    pub delimiter: &'a str,
    /// Only what comes after this key or shown prefix.
    pub after: &'a str,
    /// At most this many keys and prefixes together.
    pub limit: usize,
}

/// A page of objects.
#[derive(Debug, Default)]
pub struct Listing {
    /// The objects, by key.
    pub objects: Vec<Arc<Object>>,
    /// The prefixes that stand for the keys behind a delimiter.
    pub prefixes: Vec<String>,
    /// Where the next page goes on, if there is one.
    pub next: Option<String>,
}

impl Listing {
    pub(super) fn of(objects: &BTreeMap<String, Arc<Object>>, selection: &Selection<'_>) -> Self {
        let Selection { prefix, delimiter, after, limit } = *selection;
        let mut listing = Self::default();
        let mut last: Option<String> = None;
        let mut from = Some(first(prefix, after));
        // Each round begins behind what the one before has shown, and none where nothing can follow.
        while let Some(start) = from {
            let Some((key, object)) = objects.range::<str, _>((bound(&start), Bound::Unbounded)).next()
            else {
                break;
            };
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let shared = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten();
            let shared = shared.map(|at| &key[..prefix.len() + at + delimiter.len()]);
            from = match shared {
                Some(shared) => behind_all(shared),
                None => Some(Bound::Excluded(key.clone())),
            };
            if shared == Some(after) && !after.is_empty() {
                continue; // the page before ended with it
            }
            if listing.objects.len() + listing.prefixes.len() == limit {
                listing.next = last;
                break;
            }
            match shared {
                Some(shared) => listing.prefixes.push(shared.to_owned()),
                None => listing.objects.push(object.clone()),
            }
            last = Some(shared.unwrap_or(key).to_owned());
        }
        listing
    }
}

fn first(prefix: &str, after: &str) -> Bound<String> {
    if after >= prefix && !after.is_empty() {
        Bound::Excluded(after.to_owned())
    } else {
        Bound::Included(prefix.to_owned())
    }
}

/// The first place behind all keys that begin with `prefix`; `None`: no text comes after all of them.
fn behind_all(prefix: &str) -> Option<Bound<String>> {
    // The next text of the same length: its last character that can grow grows, and what follows goes.
    let mut text = prefix.to_owned();
    while let Some(character) = text.pop() {
        let next = (u32::from(character) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(Bound::Included(text));
        }
    }
    None
}

fn bound(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(text) => Bound::Included(text),
        Bound::Excluded(text) => Bound::Excluded(text),
        Bound::Unbounded => Bound::Unbounded,
    }
}
