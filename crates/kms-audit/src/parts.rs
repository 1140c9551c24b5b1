//! Reads the bytes of one segment in parts of whole lines, so that several threads can read lines at once.

use std::{
    io::{self, Read},
    mem,
};

use memchr::{memchr, memrchr};

use crate::segment::LONGEST_LINE;

/// So many bytes are read at a time; unit tests shall have several such parts.
const PART: usize = if cfg!(test) { 500 } else { 1 << 18 };

/// What is still to be read of a segment.
#[derive(Debug)]
pub(crate) struct Parts<R> {
    source: R,
    /// Where the next part begins.
    offset: usize,
    /// The beginning of a line there whose end was not read yet.
    begun: Vec<u8>,
    /// Whether there are no more, or one could not be read.
    is_over: bool,
    /// What lies behind the last whole line, once that was reached.
    tail: Option<Tail>,
}

/// What lies behind the last whole line that no zero byte comes before.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tail {
    /// How many bytes there are up to the last one that is not zero: a line cut short and what lies behind it.
    pub(crate) torn: usize,
    /// Whether that is a line longer than any.
    pub(crate) is_endless: bool,
    /// How many bytes the segment has in all.
    pub(crate) length: usize,
}

impl<R: Read> Parts<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, offset: 0, begun: Vec::new(), is_over: false, tail: None }
    }

    /// Where the next part begins.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Replaces what `part` holds by the next whole lines, newlines included. `false` once there are no more, or after an
    /// error.
    pub(crate) fn next(&mut self, part: &mut Vec<u8>) -> io::Result<bool> {
        part.clear();
        if mem::replace(&mut self.is_over, true) {
            return Ok(false);
        }
        part.append(&mut self.begun);
        loop {
            let searched = part.len();
            let is_end = self.read_to(part)?;
            let read = &part[searched..];
            let zero = memchr(0, read);
            let content = zero.unwrap_or(read.len());
            let lines = memrchr(b'\n', &read[..content]).map(|at| searched + at + 1);
            let is_endless = lines.is_none() && zero.is_none() && part.len() > LONGEST_LINE;
            if is_end || zero.is_some() || is_endless {
                let lines = lines.unwrap_or(0);
                self.offset += lines;
                self.tail = Some(self.read_tail(&part[lines..], is_endless)?);
                part.truncate(lines);
                return Ok(lines > 0);
            }
            if let Some(lines) = lines {
                self.offset += lines;
                self.begun.extend_from_slice(&part[lines..]);
                part.truncate(lines);
                self.is_over = false;
                return Ok(true);
            }
        }
    }

    /// What lies behind the parts; nothing before the last of them was given.
    pub(crate) fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// Puts the next bytes behind those that `part` holds; whether there were fewer than asked for.
    fn read_to(&mut self, part: &mut Vec<u8>) -> io::Result<bool> {
        part.reserve(PART);
        let read = self.source.by_ref().take(PART as u64).read_to_end(part)?;
        Ok(read < PART)
    }

    /// Reads the rest of the segment, which begins with `rest`, behind the last part.
    fn read_tail(&mut self, rest: &[u8], is_endless: bool) -> io::Result<Tail> {
        let behind_last = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map(|last| last + 1);
        let (mut torn, mut length) = (behind_last(rest).unwrap_or(0), rest.len());
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let is_end = self.read_to(&mut bytes)?;
            torn = behind_last(&bytes).map_or(torn, |last| length + last);
            length += bytes.len();
            if is_end {
                return Ok(Tail { torn, is_endless, length: self.offset + length });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::scan::WholeLines;

    /// Gives a few bytes at a time, with an interruption before each.
    struct Trickle<'a> {
        rest: &'a [u8],
        is_interrupted: bool,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_interrupted = !self.is_interrupted;
            if self.is_interrupted {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(self.rest.len()).min(7);
            let (now, rest) = self.rest.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.rest = rest;
            Ok(length)
        }
    }

    /// All parts, one behind the other, and how many they are, and what follows them.
    fn read(bytes: &[u8]) -> (Vec<u8>, usize, Tail) {
        let mut parts = Parts::new(Trickle { rest: bytes, is_interrupted: false });
        let (mut part, mut all, mut count) = (Vec::new(), Vec::new(), 0);
        while parts.next(&mut part).expect("it can be read") {
            assert_eq!(part.last(), Some(&b'\n'), "whole lines");
            assert!(!part.contains(&0));
            all.extend_from_slice(&part);
            assert_eq!(parts.offset(), all.len());
            count += 1;
        }
        let tail = parts.tail().expect("the end was reached");
        assert!(!parts.next(&mut part).expect("it can be read"), "nothing comes behind the end");
        (all, count, tail)
    }

    #[test]
    fn parts_are_the_lines_before_the_first_that_is_not_whole() {
        let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        let lines: Vec<u8> = [3, 0, 498, 499, 500, 501, 2000, 1, 1, 700].into_iter().flat_map(line).collect();
        let tails: [&[u8]; 9] = [
            b"",
            b"cut short",
            b"\0\0\0",
            b"cut\0short",
            b"cut\0short\n whole again\n",
            b"\0\0 behind a hole\n\0",
            &[0; 3000],
            &[b'y'; 3000],
            &[[0; 1500], [b'z'; 1500], [0; 1500]].concat(),
        ];
        for tail in tails {
            for end in [0, 4, 503, lines.len()] {
                let bytes = [&lines[..end], tail].concat();
                let mut whole = WholeLines::new(&bytes);
                while whole.next().is_some() {}
                let (read, count, found) = read(&bytes);
                assert_eq!(read, bytes[..whole.offset], "{end}, {tail:?}");
                let torn =
                    bytes[whole.offset..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                assert_eq!((found.torn, found.length), (torn, bytes.len()), "{end}, {tail:?}");
                assert!(count > 1 || end < lines.len(), "several parts");
            }
        }
    }

    #[test]
    fn a_line_may_be_long_but_not_endless() {
        let line = |length| [vec![b'x'; length], vec![b'\n']].concat();
        let (long, endless) = (line(LONGEST_LINE - 1), line(2 * LONGEST_LINE));
        let mut parts = Parts::new(&*long);
        let mut part = Vec::new();
        assert!(parts.next(&mut part).expect("it can be read") && part == long);
        let bytes = [b"whole\n", &*endless, b"behind it\n"].concat();
        let mut parts = Parts::new(&*bytes);
        let mut part = Vec::new();
        assert!(parts.next(&mut part).expect("it can be read"));
        assert_eq!(part, b"whole\n");
        assert!(!parts.next(&mut part).expect("it can be read"));
        assert!(part.capacity() <= endless.len(), "not all of it is held: {}", part.capacity());
        let Tail { torn, is_endless, length } = parts.tail().expect("the end was reached");
        assert_eq!((torn, is_endless, length), (bytes.len() - 6, true, bytes.len()));
    }

    #[test]
    fn an_error_of_the_disk_is_told() {
        let broken = io::Error::other("broken");
        let mut parts = Parts::new(b"whole\nbegun".chain(Broken(Some(broken))));
        assert_eq!(parts.next(&mut Vec::new()).expect_err("it cannot be read").to_string(), "broken");
        assert!(!parts.next(&mut Vec::new()).expect("it is over"), "what was read before is lost");
        assert!(parts.tail().is_none());
    }

    struct Broken(Option<io::Error>);

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }
}
