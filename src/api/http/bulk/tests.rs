//! The limits of bulk bodies, without a connection.

use super::*;
use crate::{
    base::limits::BULK_BLOCKS,
    engine::leader::QueueLimits,
    engine::view::DatabaseView,
    net::address_limits::{AddressLimits, AddressShares, LineLimits},
    replication::ReplicationBacklog,
};

fn bulk(state: &Arc<AppState>, usage: &Usage) -> BulkRequest {
    let leader = Leader::new(
        Arc::new(DatabaseView::new(false)),
        Arc::new(ReplicationBacklog::new(0, 0)),
        QueueLimits::default(),
    );
    let options = LineOptions { format: LineFormat::Plain, analyzer: Default::default(), limit: 99, charset: None };
    let (stream, hasher, database, spares) = (None, WordHasher::new(1), DatabaseTag::of(7), Mutex::new(None));
    let (state, usage, namespace) = (Arc::clone(state), usage.clone(), "words".into());
    let part_key = None;
    BulkRequest { state, usage, leader, namespace, stream, part_key, options, hasher, database, spares }
}

fn block() -> LineBlock {
    let mut lines = LineReader::new(&[], 99, None);
    lines.push(b"a b\n");
    lines.last().expect("no skip").expect("a line")
}

#[tokio::test]
async fn a_block_that_nobody_asks_for_any_more_takes_room_until_it_is_counted() {
    let state = Arc::new(super::super::test_support::state());
    let limiter = Arc::clone(&state.bulk_limiter);
    let bulk = bulk(&state, &Usage::default());
    let turns = u32::try_from(limiter.cpu_permits.available_permits()).expect("a few cores");
    let nobody_counts = limiter.cpu_permits.acquire_many(turns).await.expect("open");
    let (jobs, gone) = mpsc::channel(1);
    bulk.begin(block(), &jobs).await;
    drop((gone, bulk));
    assert_eq!(limiter.block_slots.available_permits(), BULK_BLOCKS - 1);
    drop(nobody_counts);
    let all = limiter.block_slots.acquire_many(BULK_BLOCKS as u32).await.expect("open");
    assert_eq!(all.num_permits(), BULK_BLOCKS);
}

#[tokio::test]
async fn the_block_of_another_address_is_behind_no_more_of_a_greedy_one_than_are_counted() {
    let state = Arc::new(super::super::test_support::state());
    let lines = LineLimits { bulk_blocks: BULK_BLOCKS, long_texts: 1, forwarded_writes: 1, origin_reads: 1 };
    let addresses = AddressLimits::new(AddressShares::new(Some(1), 2), lines);
    let usage = |last| addresses.usage([10, 0, 0, last].into());
    let (greedy, other) = (bulk(&state, &usage(1)), bulk(&state, &usage(2)));
    let (jobs, mut counted) = mpsc::channel(4 * BULK_BLOCKS);
    let mut waiting = Vec::new();
    for at in 0..3 * BULK_BLOCKS {
        let mut begun = Box::pin(greedy.begin(block(), &jobs));
        assert_eq!(futures::poll!(&mut begun).is_ready(), at < BULK_BLOCKS, "{at}");
        waiting.extend((at >= BULK_BLOCKS).then_some(begun));
    }
    let mut others = Box::pin(other.begin(block(), &jobs));
    assert!(futures::poll!(&mut others).is_pending(), "there are no slots");
    // One of the greedy blocks has been written.
    drop(counted.recv().await.expect("it is counted").counting.await.expect("it was counted"));
    for begun in &mut waiting {
        assert!(futures::poll!(begun).is_pending(), "it is the other's turn");
    }
    assert!(futures::poll!(&mut others).is_ready());
}
