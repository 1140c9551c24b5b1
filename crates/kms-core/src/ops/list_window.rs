//! A part of a short list, by how many to leave out and how many to give.

use crate::error::{Error, Field};

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListWindow {
    limit: usize,
    offset: usize,
}

impl ListWindow {
    /// The most entries of a part. DEW: limit.
    pub const LONGEST: u32 = 1000;
    /// How many it has where nothing is said. DEW: limit.
    pub const DEFAULT: u32 = 10;

    /// Takes a limit of 1 to 1000, 0 standing for 10, and any offset.
    pub fn parse(limit: u32, offset: u32) -> Result<Self, Error> {
        if limit > Self::LONGEST {
            return Err(Error::invalid(Field::Limit, "must be at most 1000"));
        }
        let limit = if limit == 0 { Self::DEFAULT } else { limit };
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self { limit: number(limit), offset: number(offset) })
    }

    /// Whether the item at this position is in it.
    pub(crate) fn holds(self, position: usize) -> bool {
        position.checked_sub(self.offset).is_some_and(|within| within < self.limit)
    }

    /// This part of `list`.
    pub fn of<T>(self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_its_part() {
        let list = || (0..25).collect::<Vec<_>>();
        let part = |limit, offset| ListWindow::parse(limit, offset).expect("a window").of(list());
        assert_eq!(part(0, 0), (0..10).collect::<Vec<_>>());
        assert_eq!((part(3, 23), part(1000, 25)), (vec![23, 24], vec![]));
        let window = ListWindow::parse(3, 23).expect("a window");
        assert_eq!((0..30).filter(|position| window.holds(*position)).collect::<Vec<_>>(), [23, 24, 25]);
        assert_eq!(ListWindow::parse(1001, 0).expect_err("too many").code(), "INVALID_FIELD");
    }
}
