//! Pages of lists: how long they are, and the tokens that say where the next one begins.
//!
//! A listing leaves out what its caller may not see after it read it, so a place in it can be that of something
//! hidden. Tokens are sealed: they tell nothing but that more may follow, and open for the same list only.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    crypto::gcm,
    directory::Directory,
    error::{Error, Field},
    key::Cipher,
    service::Scope,
};

/// The most entries of a page.
const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;

/// Every place takes as many bytes when it is sealed, or the length of a token would be that of what is hidden. The
/// longest place is an alias, of at most 255.
const PLACE_BYTES: usize = 260;
const IV_BYTES: usize = 12;
const TOKEN_BYTES: usize = IV_BYTES + PLACE_BYTES + gcm::TAG_BYTES;
/// In base64.
const MAX_TOKEN_CHARACTERS: usize = TOKEN_BYTES.div_ceil(3) * 4;
/// No values have these paths.
const KEY_PATH: &[u8] = b"dewpoint/v1/page-token/key";
const IV_PATH: &[u8] = b"dewpoint/v1/page-token/iv";

/// How many entries a page may hold: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSize {
    /// For lists that DEW answers in one piece, however long they are.
    pub const WHOLE: Self = Self(usize::MAX);

    /// Takes 1 to 1000; 0 stands for 100.
    pub fn parse(size: u32) -> Result<Self, Error> {
        match usize::try_from(size) {
            Ok(0) => Ok(Self(DEFAULT_PAGE)),
            Ok(size) if size <= MAX_PAGE => Ok(Self(size)),
            _ => Err(Error::invalid(Field::PageSize, "must be at most 1000")),
        }
    }

    /// How many entries a page holds at most.
    pub fn get(self) -> usize {
        self.0
    }
}

/// Where the page before ended, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(Vec<u8>);

/// A place in a listing: behind an entry of its one list, or of the second of two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PagePlace {
    pub(crate) in_second: bool,
    /// What names the entry in its list; empty before the first one.
    pub(crate) after: Vec<u8>,
}

impl PageToken {
    /// Reads what [`encode`](Self::encode) wrote; `None` for the empty text. Whether it is a token of the list that
    /// it is used for is found out by the operation: [`Error::InvalidField`], too.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let short = Some(text).filter(|text| text.len() <= MAX_TOKEN_CHARACTERS);
        let bytes = short.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        bytes.map(|bytes| Some(Self(bytes))).ok_or_else(malformed)
    }

    /// As text, opaque to the caller.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// Seals a place in the list that the call of `scope` reads; `filter` is what it reads of it.
    pub(crate) fn seal(scope: &Scope<'_>, filter: &impl Serialize, place: &PagePlace) -> Result<Self, Error> {
        let too_long = |_| Error::Internal { detail: "a place in a list is longer than a token holds" };
        let mut text = [0; PLACE_BYTES];
        postcard::to_slice(place, &mut text).map_err(too_long)?;
        let (directory, list) = (scope.directory(), list(scope, filter)?);
        // The key is the list's own and the IV follows from the place: no IV is used for two places, and a token
        // needs no random bytes.
        let mut iv = [0; IV_BYTES];
        iv.copy_from_slice(&directory.seal(IV_PATH, &[&list[..], &text].concat())[..IV_BYTES]);
        let key = directory.seal(KEY_PATH, &list);
        let tag = gcm::seal(Cipher::Aes256Gcm, &key, iv, &[], &mut text)?;
        Ok(Self([&iv[..], &text, &tag].concat()))
    }

    /// The place that this token holds, which was sealed for the same list and the same filter.
    pub(crate) fn open(&self, scope: &Scope<'_>, filter: &impl Serialize) -> Result<PagePlace, Error> {
        let key = scope.directory().seal(KEY_PATH, &list(scope, filter)?);
        let (iv, sealed) = self.0.split_first_chunk().ok_or_else(malformed)?;
        let (text, tag) = sealed.split_last_chunk().ok_or_else(malformed)?;
        let mut text = text.to_vec();
        gcm::open(Cipher::Aes256Gcm, &key, *iv, &[], &mut text, *tag).map_err(|_| malformed())?;
        postcard::take_from_bytes(&text).map(|(place, _)| place).map_err(|_| malformed())
    }
}

impl PagePlace {
    /// The place that `token` holds, or the beginning; see [`PageToken::open`].
    pub(crate) fn of(
        token: Option<&PageToken>,
        scope: &Scope<'_>,
        filter: &impl Serialize,
    ) -> Result<Self, Error> {
        token.map_or_else(|| Ok(Self::default()), |token| token.open(scope, filter))
    }
}

/// Which list it is: whose, where, read by which operation, and what of it.
fn list(scope: &Scope<'_>, filter: &impl Serialize) -> Result<Vec<u8>, Error> {
    let caller = scope.caller();
    let (account, region) = (caller.account.as_str(), caller.region.as_str());
    Directory::encode(&(scope.operation.info().name, account, region, filter))
}

fn malformed() -> Error {
    Error::invalid(
        Field::PageToken,
        "must be empty or the next_page_token of a page before, of the same list",
    )
}
