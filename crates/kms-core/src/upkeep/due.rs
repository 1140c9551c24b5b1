//! What falls due for keys.

use crate::{
    Timestamp,
    answer::Refused,
    due::{DUE_PREFIX, Due, DueEntry},
    error::Error,
    ops::{DestroyKey, Destruction, ExpireKeyMaterial},
    ports::StoreKey,
    service::Service,
};

/// A page of what is due.
#[derive(Debug)]
pub struct DuePage {
    /// What is due, in the order of time.
    pub entries: Vec<DueEntry>,
    /// Entries of this page that nobody can read.
    pub unreadable: Vec<Error>,
    /// How the next page is found; `None` on the last one.
    pub next: Option<StoreKey>,
}

impl Service {
    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        self.ports().clock.now()
    }

    /// Reads at most `limit` entries of what is due now. Not recorded: it uses and changes nothing.
    pub async fn due(&self, after: Option<StoreKey>, limit: usize) -> Result<DuePage, Error> {
        let listed = self.directory().index(DUE_PREFIX, after.as_deref(), limit).await?;
        let (now, mut more) = (self.now(), listed.len() == limit);
        let mut page = DuePage { entries: Vec::new(), unreadable: Vec::new(), next: None };
        for (path, _) in listed {
            match DueEntry::parse(&path) {
                Ok(entry) if entry.at() > now => {
                    more = false;
                    break;
                }
                Ok(entry) => page.entries.push(entry),
                Err(error) => page.unreadable.push(error),
            }
            page.next = Some(path);
        }
        page.next = page.next.filter(|_| more);
        Ok(page)
    }

    /// When the next thing falls due; `None`: nothing does.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let first = self.directory().index(DUE_PREFIX, None, 1).await?;
        first.first().map(|(path, _)| DueEntry::parse(path).map(|entry| entry.at())).transpose()
    }

    /// Does one thing that is due, and leaves no trace in the store that it was. Does nothing if it is not due any more.
    ///
    /// As every change, it must be driven to its end.
    pub async fn carry_out(&self, entry: DueEntry) -> Result<(), Refused> {
        match entry.kind() {
            Due::Deletion => {
                while self.run_own(DestroyKey { entry }).await?.into_inner() == Destruction::GoesOn {}
                Ok(())
            }
            Due::MaterialExpiry => self.run_own(ExpireKeyMaterial { entry }).await.map(drop),
            Due::Rotation => Err(Refused::internal("rotation by time is not built yet")),
        }
    }
}
