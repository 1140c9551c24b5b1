//! A record's line at a glance: that it is canonical, and what a walk over the log needs of it.
//!
//! Canonical bytes can be told from others by reading them once in the order in which the fields must stand, without
//! building what they say: so the log is read about as fast as it is hashed. What is rare is left to [`Line::parse`],
//! which alone says what the format is: whatever is accepted here, it accepts, and it says the same.
//!
//! [`Line::parse`]: crate::line::Line::parse

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::LazyLock,
};

use kms_core::{
    OpenIntent, Phase, RequestId, Verdict,
    key::{KeyId, KeyOrigin, KeySpec},
    operation::OperationName,
};
use memchr::memchr;
use time::{Date, Month};
use uuid::Uuid;

use crate::{
    fields::Named,
    line::{FORMAT_VERSION, RecordLine},
};

/// What a walk over the log needs of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) sequence: u64,
    pub(crate) request_id: RequestId,
    pub(crate) operation: OperationName,
    pub(crate) key_id: Option<KeyId>,
    pub(crate) phase: Phase,
    pub(crate) verdict: Verdict,
    pub(crate) archived_lines: Option<u64>,
}

impl From<&RecordLine<'_>> for Glance {
    fn from(record: &RecordLine<'_>) -> Self {
        Self {
            sequence: record.seq,
            request_id: record.request_id,
            operation: record.operation,
            key_id: record.key_id,
            phase: record.phase,
            verdict: record.verdict,
            archived_lines: record.archived_lines,
        }
    }
}

impl Glance {
    /// Reads the canonical line of a record, given without its newline. Nothing if it is none, or one that has to be
    /// looked at more closely: with texts that are not plain, or a time before 1970.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        // Without a way out of the loop it takes many bytes at once. From here on each byte of a text stands for itself.
        let is_plain = |plain, byte: &u8| plain & matches!(byte, b' '..=b'[' | b']'..=b'~');
        if !line.iter().fold(true, is_plain) {
            return None;
        }
        let mut line = Members { rest: line.strip_prefix(b"{\"")?, is_over: false };
        line.find("access_key_id", Members::text)?;
        line.find("account", Members::text)?;
        line.find("acting_service", Members::text)?;
        line.next("action", Members::text)?;
        let archived_lines = line.find("archived_lines", Members::number)?;
        line.find("bucket_key", Members::uuid)?;
        line.find("certificate", Members::hex::<64>)?;
        line.find("context", Members::context)?;
        line.next("count", Members::number::<u64>)?;
        line.find("from_version", Members::number::<u32>)?;
        line.find("grant_id", Members::text)?;
        line.find("item", Members::hex::<16>)?;
        let key_id = line.find("key_id", Members::uuid)?.map(KeyId::from_uuid);
        line.find("key_origin", Members::word::<KeyOrigin>)?;
        line.find("key_spec", Members::word::<KeySpec>)?;
        line.find("key_version", Members::number::<u32>)?;
        line.next("latency_us", Members::number::<u64>)?;
        line.find("missing_action", Members::text)?;
        let operation = line.next("operation", Members::operation)?;
        line.find("password_of", Members::text)?;
        let phase = line.next("phase", Members::word)?;
        line.find("project", Members::text)?;
        line.find("reason", Members::text)?;
        line.find("region", Members::text)?;
        let request_id = line.next("request_id", Members::uuid)?;
        line.find("ruling", Members::text)?;
        let sequence = line.next("seq", Members::number)?;
        line.find("source", Members::address)?;
        line.find("source_context", Members::context)?;
        line.find("source_key_id", Members::uuid)?;
        line.find("source_key_version", Members::number::<u32>)?;
        line.find("state_digest", Members::hex::<64>)?;
        line.next("time", Members::moment)?;
        line.find("token_issued", Members::moment)?;
        line.find("trace_name", Members::text)?;
        line.find("user", Members::text)?;
        line.find("uses", Members::number::<u64>)?;
        let version: u32 = line.next("v", Members::number)?;
        line.find("valid_until", Members::moment)?;
        let verdict = line.next("verdict", Members::word)?;
        let is_known = line.is_over && version == FORMAT_VERSION;
        is_known.then_some(Self { sequence, request_id, operation, key_id, phase, verdict, archived_lines })
    }

    /// The intent that the record is or answers.
    pub(crate) fn intent(&self) -> OpenIntent {
        OpenIntent { request_id: self.request_id, operation: self.operation, key_id: self.key_id }
    }
}

/// The members of an object that are still to be read.
struct Members<'a> {
    /// Begins with the name of the next one, behind its quotation mark; nothing once all are read.
    rest: &'a [u8],
    /// Whether all are read.
    is_over: bool,
}

impl<'a> Members<'a> {
    /// Reads a member that must come next.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compares with a name of known length")]
    fn next<T>(&mut self, name: &str, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.find(name, value)?
    }

    /// Reads a member if it comes next. Nothing if it cannot be read.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compares with a name of known length")]
    #[allow(clippy::option_option, reason = "a member that is absent can be read on from")]
    fn find<T>(&mut self, name: &str, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        let named = self.rest.strip_prefix(name.as_bytes());
        let Some(rest) = named.and_then(|rest| rest.strip_prefix(b"\":")) else { return Some(None) };
        self.rest = rest;
        let value = value(self)?;
        match self.rest {
            [b',', b'"', rest @ ..] => self.rest = rest,
            [b'}'] => (self.rest, self.is_over) = (&[], true),
            _ => return None,
        }
        Some(Some(value))
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        self.skip(b'"')?;
        let (text, rest) = self.rest.split_at(memchr(b'"', self.rest)?);
        self.rest = &rest[1..];
        Some(text)
    }

    /// A text of so many bytes.
    fn text_of<const LENGTH: usize>(&mut self) -> Option<&'a [u8; LENGTH]> {
        self.skip(b'"')?;
        let (text, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.skip(b'"')?;
        Some(text)
    }

    /// A number, written as short as can be.
    fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        let (number, rest) = leading_number(self.rest)?;
        self.rest = rest;
        number.try_into().ok()
    }

    fn hex<const DIGITS: usize>(&mut self) -> Option<()> {
        let is_hex = |hex, byte: &u8| hex & matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        self.text_of::<DIGITS>()?.iter().fold(true, is_hex).then_some(())
    }

    fn uuid(&mut self) -> Option<Uuid> {
        let text = self.text_of::<36>()?;
        let is_upper = |upper, byte: &u8| upper | byte.is_ascii_uppercase();
        Uuid::try_parse_ascii(text).ok().filter(|_| !text.iter().fold(false, is_upper))
    }

    fn word<T: Named>(&mut self) -> Option<T> {
        let text = self.text()?;
        T::all().iter().copied().find(|value| value.word().as_bytes() == text)
    }

    fn operation(&mut self) -> Option<OperationName> {
        /// By the length of the name, in which most differ.
        static BY_LENGTH: LazyLock<Vec<Vec<OperationName>>> = LazyLock::new(|| {
            let mut by_length = Vec::<Vec<_>>::new();
            for operation in OperationName::ALL {
                let length = operation.word().len();
                by_length.resize_with(by_length.len().max(length + 1), Vec::new);
                by_length[length].push(*operation);
            }
            by_length
        });
        let text = self.text()?;
        BY_LENGTH.get(text.len())?.iter().copied().find(|operation| operation.word().as_bytes() == text)
    }

    /// An address with a port, as the system writes it.
    fn address(&mut self) -> Option<()> {
        let text = self.text()?;
        if is_version_4(text) {
            return Some(());
        }
        let text = str::from_utf8(text).ok()?;
        let address: SocketAddr = text.parse().ok()?;
        let mut written = Comparison { rest: text };
        write!(written, "{address}").ok()?;
        written.rest.is_empty().then_some(())
    }

    /// RFC 3339 in UTC with six digits of a second, of the years from 1970 to 9999.
    fn moment(&mut self) -> Option<()> {
        let text = self.text_of::<27>()?;
        let has_form =
            text.iter().zip(b"0000-00-00T00:00:00.000000Z").fold(true, |has_form, (byte, form)| {
                has_form & if *form == b'0' { byte.is_ascii_digit() } else { byte == form }
            });
        if !has_form {
            return None;
        }
        let two_digits = |at: usize| 10 * (text[at] - b'0') + (text[at + 1] - b'0');
        let year = 100 * i32::from(two_digits(0)) + i32::from(two_digits(2));
        let month = Month::try_from(two_digits(5)).ok()?;
        Date::from_calendar_date(year, month, two_digits(8)).ok()?;
        let is_time = two_digits(11) < 24 && two_digits(14) < 60 && two_digits(17) < 60;
        (year >= 1970 && is_time).then_some(())
    }

    /// Texts by name, in the order of their names; at least one.
    fn context(&mut self) -> Option<()> {
        self.skip(b'{')?;
        let mut before: Option<&[u8]> = None;
        loop {
            let name = self.text()?;
            if before.is_some_and(|before| before >= name) {
                return None;
            }
            before = Some(name);
            self.skip(b':')?;
            self.text()?;
            if self.skip(b'}').is_some() {
                return Some(());
            }
            self.skip(b',')?;
        }
    }
}

/// The number that the bytes begin with, written as short as can be, and what follows it.
fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let (first, mut rest) = bytes.split_first()?;
    let mut number = digit(first)?;
    while let Some((next, behind)) = rest.split_first() {
        let Some(next) = digit(next) else { break };
        if number == 0 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(next)?;
        rest = behind;
    }
    Some((number, rest))
}

/// Whether a text is an address of IPv4 with a port.
fn is_version_4(text: &[u8]) -> bool {
    let mut rest = text;
    for (most, end) in [(255, b'.'), (255, b'.'), (255, b'.'), (255, b':')] {
        match leading_number(rest) {
            Some((number, [next, behind @ ..])) if number <= most && *next == end => rest = behind,
            _ => return false,
        }
    }
    leading_number(rest).is_some_and(|(port, behind)| port <= 65_535 && behind.is_empty())
}

/// Fails where what is written is not what is expected.
struct Comparison<'a> {
    rest: &'a str,
}

impl fmt::Write for Comparison<'_> {
    fn write_str(&mut self, written: &str) -> fmt::Result {
        self.rest = self.rest.strip_prefix(written).ok_or(fmt::Error)?;
        Ok(())
    }
}
