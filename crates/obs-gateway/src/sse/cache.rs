//! What the KMS said lately, so that not every object asks for all of it again.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::KeyError;

/// How long an answer is believed, counted from before it was asked for. What makes and opens data
/// keys is asked every time, and under bucket keys whenever one of these is made or opened.
// OBS: what it keeps of a requester's access to a key, it keeps for about three minutes.
pub(super) const VALIDITY: Duration = Duration::from_mins(3);
/// How many are kept; beyond that, all are forgotten.
const MOST: usize = 10_000;

type Answer<Fact> = Shared<BoxFuture<'static, Result<Fact, KeyError>>>;
type Slots<Name, Fact> = Arc<Mutex<HashMap<Name, Slot<Fact>>>>;

/// Facts by name. Whoever needs one that somebody is asking for waits for that answer. Refusals are not kept.
#[derive(Debug)]
pub(super) struct Believed<Name, Fact>(Slots<Name, Fact>);

#[derive(Debug)]
struct Slot<Fact> {
    asked: Instant,
    answer: Answer<Fact>,
}

impl<Name, Fact> Default for Believed<Name, Fact> {
    fn default() -> Self {
        Self(Slots::default())
    }
}

impl<Name, Fact> Believed<Name, Fact>
where
    Name: Hash + Eq + Clone + Send + 'static,
    Fact: Clone + Send + Sync + 'static,
{
    /// The fact of this name, asked for by `ask` if it is not there: in a task of its own, so that it arrives although
    /// who asked first gives up waiting.
    pub(super) async fn fact<Asking>(
        &self,
        name: &Name,
        ask: impl FnOnce() -> Asking,
    ) -> Result<Fact, KeyError>
    where
        Asking: Future<Output = Result<Fact, KeyError>> + Send + 'static,
    {
        self.answer(name, ask).await
    }

    fn answer<Asking>(&self, name: &Name, ask: impl FnOnce() -> Asking) -> Answer<Fact>
    where
        Asking: Future<Output = Result<Fact, KeyError>> + Send + 'static,
    {
        let asked = Instant::now();
        let mut slots = self.0.lock();
        if let Some(slot) = slots.get(name).filter(|slot| asked < slot.asked + VALIDITY) {
            return slot.answer.clone();
        }
        let (asking, kept, own) = (ask(), self.0.clone(), name.clone());
        let told = tokio::spawn(async move {
            let told = asking.await;
            if told.is_err() {
                let mut slots = kept.lock();
                if slots.get(&own).is_some_and(|slot| slot.asked == asked) {
                    slots.remove(&own);
                }
            }
            told
        });
        let ended = |_| KeyError::Unavailable("nobody waits for the key service any more".to_owned());
        let answer = async move { told.await.map_err(ended)? }.boxed().shared();
        if slots.len() >= MOST {
            slots.retain(|_, slot| asked < slot.asked + VALIDITY);
        }
        if slots.len() >= MOST {
            slots.clear();
        }
        slots.insert(name.clone(), Slot { asked, answer: answer.clone() });
        answer
    }

    /// Forgets the facts of these names.
    pub(super) fn forget(&self, which: impl Fn(&Name) -> bool) {
        self.0.lock().retain(|name, _| !which(name));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Facts whose every call counts.
    #[derive(Default)]
    struct Counted {
        believed: Believed<usize, usize>,
        calls: Arc<AtomicUsize>,
    }

    impl Counted {
        async fn ask(&self, name: usize, answer: Result<usize, KeyError>) -> Result<usize, KeyError> {
            let calls = self.calls.clone();
            let asking = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                answer
            };
            self.believed.fact(&name, asking).await
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_three_minutes() {
        let counted = Counted::default();
        assert_eq!(counted.ask(1, Ok(10)).await.unwrap(), 10);
        assert_eq!(counted.ask(2, Ok(20)).await.unwrap(), 20);
        tokio::time::advance(VALIDITY.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!((counted.ask(1, Ok(11)).await.unwrap(), counted.calls()), (10, 2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((counted.ask(1, Ok(11)).await.unwrap(), counted.calls()), (11, 3));
    }

    #[tokio::test]
    async fn many_who_need_the_same_ask_once() {
        let counted = Counted::default();
        let asked = futures_util::future::join_all((0..100).map(|_| counted.ask(1, Ok(10)))).await;
        assert!(asked.into_iter().all(|answer| answer.unwrap() == 10));
        assert_eq!(counted.calls(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_not_kept_and_what_was_withdrawn_is_forgotten() {
        let counted = Counted::default();
        for _ in 0..2 {
            assert!(matches!(counted.ask(1, Err(KeyError::NotFound)).await, Err(KeyError::NotFound)));
        }
        assert_eq!(counted.ask(1, Ok(10)).await.unwrap(), 10);
        counted.ask(2, Ok(20)).await.unwrap();
        counted.believed.forget(|name| *name == 1);
        assert_eq!(counted.ask(1, Ok(11)).await.unwrap(), 11);
        assert_eq!((counted.ask(2, Ok(21)).await.unwrap(), counted.calls()), (20, 5));
    }

    #[tokio::test]
    async fn an_answer_arrives_although_nobody_waits() {
        let counted = Counted::default();
        drop(counted.believed.answer(&1, || async { Ok(10) }));
        assert_eq!(counted.ask(1, Ok(11)).await.unwrap(), 10);
    }

    #[tokio::test]
    async fn their_count_is_bounded() {
        let counted = Counted::default();
        for name in 0..=MOST {
            counted.ask(name, Ok(name)).await.unwrap();
        }
        assert!(counted.believed.0.lock().len() <= MOST);
        assert_eq!(counted.ask(MOST, Ok(0)).await.unwrap(), MOST);
    }
}
