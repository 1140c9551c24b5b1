//! Every rule of the store port, as one suite for all adapters.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use crate::ports::{
    Condition, KeyStore, MAX_KEY_BYTES, MAX_MUTATIONS, MAX_VALUE_BYTES, Mutation, Revision, Snapshot,
    StoreError, StoreKey, Transaction, Versioned,
};

/// Runs the whole suite; `make` gives a new, empty store for each rule.
///
/// # Panics
///
/// When a rule is broken: the message names it.
pub async fn key_store_contract<S: KeyStore>(make: impl AsyncFn() -> S) {
    what_was_put_is_read(&make().await).await;
    revisions_grow(&make().await).await;
    absence_is_checked(&make().await).await;
    revisions_are_checked(&make().await).await;
    the_first_broken_condition_is_named(&make().await).await;
    a_conflict_changes_nothing(&make().await).await;
    conditions_are_of_the_state_before(&make().await).await;
    a_later_mutation_of_a_key_wins(&make().await).await;
    an_absent_key_can_be_deleted(&make().await).await;
    a_transaction_may_be_empty(&make().await).await;
    many_are_read_in_their_order(&make().await).await;
    a_range_is_of_its_prefix_in_key_order(&make().await).await;
    a_range_starts_after(&make().await).await;
    a_range_is_limited(&make().await).await;
    a_prefix_may_end_in_the_highest_byte(&make().await).await;
    what_reaches_the_limits_is_taken(&make().await).await;
    what_exceeds_the_limits_is_refused(&make().await).await;
    a_dropped_future_does_not_undo(&make().await).await;
    concurrent_writers_lose_no_increment(&make().await).await;
    a_snapshot_is_of_one_revision(&make().await).await;
    snapshots_do_not_disturb_one_another(&make().await).await;
}

async fn what_was_put_is_read(store: &impl KeyStore) {
    assert_eq!(read(store, "key").await, None, "nothing is there before");
    let first = put(store, "key", b"first").await;
    assert_eq!(read(store, "key").await, Some(versioned(first, b"first")), "a put is read back");
    let second = put(store, "key", b"").await;
    assert_eq!(read(store, "key").await, Some(versioned(second, b"")), "an empty value is a value");
    commit(store, vec![Mutation::Delete(key("key"))]).await;
    assert_eq!(read(store, "key").await, None, "a deleted key has no value");

    let empty_key = commit(store, vec![Mutation::Put(vec![], b"value".to_vec())]).await;
    assert_eq!(read(store, "").await, Some(versioned(empty_key, b"value")), "the empty key is a key");
}

async fn revisions_grow(store: &impl KeyStore) {
    let mut last = put(store, "key", b"value").await;
    for mutation in [
        Mutation::Put(key("key"), b"value".to_vec()),
        Mutation::Put(key("other"), b"value".to_vec()),
        Mutation::Delete(key("key")),
        Mutation::Put(key("key"), b"value".to_vec()),
    ] {
        let revision = commit(store, vec![mutation]).await;
        assert!(revision > last, "revision {revision} must be greater than {last}");
        last = revision;
    }
}

async fn absence_is_checked(store: &impl KeyStore) {
    let create = || Transaction {
        conditions: vec![Condition::Absent(key("key"))],
        mutations: vec![Mutation::Put(key("key"), b"value".to_vec())],
    };
    store.transact(create()).await.expect("the key is absent");
    assert_eq!(store.transact(create()).await, conflict(0), "the key is there now");
    commit(store, vec![Mutation::Delete(key("key"))]).await;
    store.transact(create()).await.expect("the key is absent again");
}

async fn revisions_are_checked(store: &impl KeyStore) {
    let first = put(store, "key", b"first").await;
    let second = replace(store, "key", first, b"second").await.expect("the revision is current");
    assert_eq!(replace(store, "key", first, b"third").await, conflict(0), "the revision is old");
    assert_eq!(replace(store, "key", second + 1, b"third").await, conflict(0), "a revision to come");
    assert_eq!(replace(store, "none", second, b"third").await, conflict(0), "the key is absent");
    assert_eq!(read(store, "key").await, Some(versioned(second, b"second")));

    commit(store, vec![Mutation::Delete(key("key"))]).await;
    let recreated = put(store, "key", b"second").await;
    assert_eq!(replace(store, "key", second, b"third").await, conflict(0), "deleted and made again");
    replace(store, "key", recreated, b"third").await.expect("the revision is current");
}

async fn the_first_broken_condition_is_named(store: &impl KeyStore) {
    let revision = put(store, "key", b"value").await;
    let conditions = vec![
        Condition::Revision(key("key"), revision),
        Condition::Absent(key("none")),
        Condition::Absent(key("key")),
        Condition::Revision(key("none"), revision),
    ];
    let outcome = store.transact(Transaction { conditions, mutations: vec![] }).await;
    assert_eq!(outcome, conflict(2), "the first that does not hold");
}

async fn a_conflict_changes_nothing(store: &impl KeyStore) {
    let revision = put(store, "key", b"value").await;
    let outcome = store
        .transact(Transaction {
            conditions: vec![Condition::Absent(key("key"))],
            mutations: vec![
                Mutation::Put(key("new"), b"value".to_vec()),
                Mutation::Put(key("key"), b"other".to_vec()),
                Mutation::Delete(key("key")),
            ],
        })
        .await;
    assert_eq!(outcome, conflict(0));
    let all = range(store, b"", None, 10).await;
    assert_eq!(all, [(key("key"), versioned(revision, b"value"))], "nothing was changed");
}

async fn conditions_are_of_the_state_before(store: &impl KeyStore) {
    let transaction = Transaction {
        conditions: vec![Condition::Absent(key("key")), Condition::Absent(key("key"))],
        mutations: vec![Mutation::Put(key("key"), b"value".to_vec())],
    };
    store.transact(transaction).await.expect("its own mutations do not count");
}

async fn a_later_mutation_of_a_key_wins(store: &impl KeyStore) {
    let revision = commit(
        store,
        vec![
            Mutation::Put(key("kept"), b"first".to_vec()),
            Mutation::Put(key("gone"), b"first".to_vec()),
            Mutation::Delete(key("kept")),
            Mutation::Put(key("kept"), b"second".to_vec()),
            Mutation::Delete(key("gone")),
        ],
    )
    .await;
    let all = range(store, b"", None, 10).await;
    assert_eq!(all, [(key("kept"), versioned(revision, b"second"))]);
}

async fn an_absent_key_can_be_deleted(store: &impl KeyStore) {
    commit(store, vec![Mutation::Delete(key("none"))]).await;
    assert_eq!(read(store, "none").await, None);
}

async fn a_transaction_may_be_empty(store: &impl KeyStore) {
    let first = store.transact(Transaction::default()).await.expect("nothing is asked for");
    let second = store.transact(Transaction::default()).await.expect("nothing is asked for");
    assert!(second > first, "a revision is unique to its transaction");
}

async fn many_are_read_in_their_order(store: &impl KeyStore) {
    let revision =
        commit(store, vec![Mutation::Put(key("a"), b"1".to_vec()), Mutation::Put(key("b"), b"2".to_vec())])
            .await;
    let (a, b) = (versioned(revision, b"1"), versioned(revision, b"2"));
    // Twice: an adapter may answer the second time from memory.
    for _ in 0..2 {
        let found = store.get_many(&[key("b"), key("none"), key("a"), key("b")]).await;
        assert_eq!(found, Ok(vec![Some(b.clone()), None, Some(a.clone()), Some(b.clone())]));
    }
    assert_eq!(store.get_many(&[]).await, Ok(vec![]), "no keys, no values");
}

async fn a_range_is_of_its_prefix_in_key_order(store: &impl KeyStore) {
    fill(store, &[b"b", b"a/2", b"a/10", b"a", b"a/", b"a0", b"A/1"]).await;
    assert_eq!(keys(store, b"a/", None, 10).await, [&b"a/"[..], b"a/10", b"a/2"], "of a prefix");
    let all: [&[u8]; 7] = [b"A/1", b"a", b"a/", b"a/10", b"a/2", b"a0", b"b"];
    assert_eq!(keys(store, b"", None, 10).await, all, "the empty prefix is of all keys");
    assert!(keys(store, b"c", None, 10).await.is_empty(), "a prefix of no key");
}

async fn a_range_starts_after(store: &impl KeyStore) {
    fill(store, &[b"a/1", b"a/2", b"a/3", b"b/1"]).await;
    assert_eq!(keys(store, b"a/", Some(b"a/1"), 10).await, [b"a/2", b"a/3"], "after is exclusive");
    assert_eq!(keys(store, b"a/", Some(b"a/15"), 10).await, [b"a/2", b"a/3"], "after need not exist");
    assert!(keys(store, b"a/", Some(b"a/3"), 10).await.is_empty(), "after the last");
    assert_eq!(keys(store, b"b/", Some(b"a/2"), 10).await, [b"b/1"], "after lies before the prefix");
    assert!(keys(store, b"a/", Some(b"b/1"), 10).await.is_empty(), "after lies behind the prefix");
    assert_eq!(keys(store, b"", Some(b"a/2"), 10).await, [b"a/3", b"b/1"], "no prefix");
    assert_eq!(keys(store, b"a/", Some(b""), 1).await, [b"a/1"], "after the empty key");
}

async fn a_range_is_limited(store: &impl KeyStore) {
    fill(store, &[b"a", b"b", b"c"]).await;
    assert_eq!(keys(store, b"", None, 2).await, [b"a", b"b"]);
    assert_eq!(keys(store, b"", Some(b"b"), 2).await, [b"c"]);
    assert!(keys(store, b"", None, 0).await.is_empty(), "a limit of nothing");
    assert_eq!(keys(store, b"", None, usize::MAX).await.len(), 3, "no limit");
}

async fn a_prefix_may_end_in_the_highest_byte(store: &impl KeyStore) {
    fill(store, &[&[0xfe], &[0xff], &[0xff, 0x00], &[0xff, 0xff], &[0xff, 0xff, 0xff], &[0x00]]).await;
    let highest: [&[u8]; 4] = [&[0xff], &[0xff, 0x00], &[0xff, 0xff], &[0xff, 0xff, 0xff]];
    assert_eq!(keys(store, &[0xff], None, 10).await, highest);
    assert_eq!(keys(store, &[0xff, 0xff], None, 10).await, highest[2..]);
    assert_eq!(keys(store, &[0xff, 0xff], Some(&[0xff, 0xff]), 10).await, highest[3..]);
}

async fn what_reaches_the_limits_is_taken(store: &impl KeyStore) {
    let longest_key = vec![b'k'; MAX_KEY_BYTES];
    let mut mutations = vec![Mutation::Put(longest_key.clone(), vec![b'v'; MAX_VALUE_BYTES])];
    mutations.resize(MAX_MUTATIONS, Mutation::Delete(vec![b'd'; MAX_KEY_BYTES]));
    let conditions = vec![Condition::Absent(longest_key.clone())];
    let revision = store.transact(Transaction { conditions, mutations }).await.expect("within the limits");
    let found = store.get_many(std::slice::from_ref(&longest_key)).await.expect("the store works");
    assert_eq!(found, [Some(versioned(revision, &vec![b'v'; MAX_VALUE_BYTES]))]);
}

async fn what_exceeds_the_limits_is_refused(store: &impl KeyStore) {
    let long_key = vec![b'k'; MAX_KEY_BYTES + 1];
    let small = || Mutation::Put(key("small"), b"value".to_vec());
    let mutate = |mutations| Transaction { conditions: vec![], mutations };
    let check = |condition| Transaction { conditions: vec![condition], mutations: vec![small()] };
    for (what, transaction) in [
        ("the key of a put", mutate(vec![small(), Mutation::Put(long_key.clone(), vec![])])),
        ("the key of a delete", mutate(vec![small(), Mutation::Delete(long_key.clone())])),
        ("a value", mutate(vec![small(), Mutation::Put(key("key"), vec![0; MAX_VALUE_BYTES + 1])])),
        ("the mutations", mutate(vec![small(); MAX_MUTATIONS + 1])),
        ("the key of an absence", check(Condition::Absent(long_key.clone()))),
        ("the key of a revision", check(Condition::Revision(long_key.clone(), 1))),
    ] {
        let outcome = store.transact(transaction).await;
        assert!(matches!(outcome, Err(StoreError::TooLarge { .. })), "{what}: {outcome:?}");
    }
    assert!(range(store, b"", None, 10).await.is_empty(), "nothing was changed");
}

async fn a_dropped_future_does_not_undo(store: &impl KeyStore) {
    const PATIENCE: usize = 10_000_000;
    let mutations = vec![Mutation::Put(key("key"), b"value".to_vec())];
    let mut begun = store.transact(Transaction { conditions: vec![], mutations });
    poll_fn(|context| Poll::Ready(begun.as_mut().poll(context).is_ready())).await;
    drop(begun);
    for _ in 0..PATIENCE {
        if read(store, "key").await.is_some() {
            return;
        }
        turn().await;
    }
    panic!("the transaction was begun, so it must happen");
}

async fn concurrent_writers_lose_no_increment(store: &impl KeyStore) {
    const WRITERS: u64 = 16;
    const INCREMENTS: u64 = 25;
    put(store, "counter", &0_u64.to_be_bytes()).await;
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            Box::pin(async {
                for _ in 0..INCREMENTS {
                    increment(store).await;
                }
            })
        })
        .collect();
    all(&mut writers).await;
    let counter = read(store, "counter").await.expect("the counter is there");
    assert_eq!(*counter.value, (WRITERS * INCREMENTS).to_be_bytes(), "each increment counts once");
}

async fn a_snapshot_is_of_one_revision(store: &impl KeyStore) {
    let empty = store.snapshot().await.expect("a snapshot of nothing");
    assert_eq!(all_of(empty, 3).await, [], "nothing is there before");
    fill(store, &[b"", b"a", b"b", b"c", b"\xff"]).await;
    let kept = range(store, b"", None, 10).await;
    let revision = put(store, "b", b"last before").await;
    let snapshot = store.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.revision(), revision, "it names the last change in it");
    commit(store, vec![Mutation::Delete(key("a")), Mutation::Put(key("d"), vec![1])]).await;
    put(store, "c", b"after").await;

    let mut expected = kept;
    expected[2].1 = versioned(revision, b"last before");
    assert_eq!(all_of(snapshot, 2).await, expected, "what is committed later is not in it");
    let now = store.snapshot().await.expect("another snapshot");
    assert_eq!(all_of(now, 100).await, range(store, b"", None, 10).await, "a later one has it");
}

async fn snapshots_do_not_disturb_one_another(store: &impl KeyStore) {
    fill(store, &[b"a", b"b"]).await;
    let mut first = store.snapshot().await.expect("a snapshot");
    let page = first.page(1).await.expect("a page");
    put(store, "c", b"value").await;
    let second = store.snapshot().await.expect("a second one");
    drop(page);
    assert_eq!(all_of(second, 2).await.len(), 3, "the second has all");
    assert_eq!(all_of(first, 2).await.len(), 1, "the first goes on after its first page");
}

/// All pages of a snapshot, of this length.
async fn all_of(mut snapshot: Box<dyn Snapshot>, limit: usize) -> Vec<(StoreKey, Versioned)> {
    let mut entries = Vec::new();
    loop {
        let page = snapshot.page(limit).await.expect("a page");
        assert!(page.len() <= limit, "a page is limited");
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

async fn increment(store: &impl KeyStore) {
    loop {
        let current = read(store, "counter").await.expect("the counter is there");
        let number = u64::from_be_bytes(current.value.as_ref().try_into().expect("8 bytes were written"));
        // Lets the others read the same value, so that even an instant store sees conflicts.
        turn().await;
        match replace(store, "counter", current.revision, &(number + 1).to_be_bytes()).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("the store failed: {error}"),
        }
    }
}

/// Waits for all of `futures`, polling each in turn: the suite must run on any executor.
async fn all<F: Future<Output = ()>>(futures: &mut Vec<Pin<Box<F>>>) {
    poll_fn(|context: &mut Context<'_>| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Gives way to the other futures of the same task once.
async fn turn() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn key(name: &str) -> StoreKey {
    name.as_bytes().to_vec()
}

fn versioned(revision: Revision, value: &[u8]) -> Versioned {
    Versioned { revision, value: value.into() }
}

fn conflict(index: usize) -> Result<Revision, StoreError> {
    Err(StoreError::Conflict { index })
}

async fn read(store: &impl KeyStore, name: &str) -> Option<Versioned> {
    let mut found = store.get_many(&[key(name)]).await.expect("the store works");
    assert_eq!(found.len(), 1, "one answer for one key");
    found.pop().flatten()
}

async fn commit(store: &impl KeyStore, mutations: Vec<Mutation>) -> Revision {
    store.transact(Transaction { conditions: vec![], mutations }).await.expect("no condition can fail")
}

async fn put(store: &impl KeyStore, name: &str, value: &[u8]) -> Revision {
    commit(store, vec![Mutation::Put(key(name), value.to_vec())]).await
}

async fn replace(
    store: &impl KeyStore,
    name: &str,
    revision: Revision,
    value: &[u8],
) -> Result<Revision, StoreError> {
    let conditions = vec![Condition::Revision(key(name), revision)];
    let mutations = vec![Mutation::Put(key(name), value.to_vec())];
    store.transact(Transaction { conditions, mutations }).await
}

async fn fill(store: &impl KeyStore, keys: &[&[u8]]) {
    commit(store, keys.iter().map(|key| Mutation::Put(key.to_vec(), key.to_vec())).collect()).await;
}

async fn range(
    store: &impl KeyStore,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Vec<(StoreKey, Versioned)> {
    store.range(prefix, after, limit).await.expect("the store works")
}

async fn keys(store: &impl KeyStore, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<StoreKey> {
    range(store, prefix, after, limit).await.into_iter().map(|(key, _)| key).collect()
}
