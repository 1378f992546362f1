use std::cell::RefCell;

use tokio::sync::{Notify, oneshot};

use super::*;

/// Batches `0..total`, each of which logs what happens to it.
struct Fake<W, C> {
    total: usize,
    next: Cell<usize>,
    log: RefCell<Vec<String>>,
    sizes: RefCell<Vec<usize>>,
    groups: RefCell<Vec<usize>>,
    claimed_at: RefCell<Vec<Instant>>,
    work: W,
    checkpoint: C,
}

impl<W, C> Fake<W, C>
where
    W: AsyncFn(usize) -> Result<(), JobError>,
    C: AsyncFn(usize) -> Result<Flow, JobError>,
{
    fn new(total: usize, work: W, checkpoint: C) -> Self {
        let (log, sizes, groups, claimed_at) = Default::default();
        Self { total, next: Cell::new(0), log, sizes, groups, claimed_at, work, checkpoint }
    }

    fn note(&self, what: &str, batch: usize) {
        self.log.borrow_mut().push(format!("{what} {batch}"));
    }

    fn log_of(&self, what: &str) -> Vec<usize> {
        let log = self.log.borrow();
        log.iter().filter_map(|line| line.strip_prefix(what)?.trim().parse().ok()).collect()
    }
}

impl<W, C> Batch for Fake<W, C>
where
    W: AsyncFn(usize) -> Result<(), JobError>,
    C: AsyncFn(usize) -> Result<Flow, JobError>,
{
    type Claimed = usize;
    type Worked = usize;

    async fn claim(&self, size: usize) -> Result<Option<usize>, JobError> {
        let batch = self.next.get();
        if batch == self.total {
            return Ok(None);
        }
        self.next.set(batch + 1);
        self.sizes.borrow_mut().push(size);
        self.claimed_at.borrow_mut().push(Instant::now());
        self.note("claim", batch);
        Ok(Some(batch))
    }

    async fn work(&self, batch: usize) -> Result<usize, JobError> {
        self.note("work", batch);
        (self.work)(batch).await?;
        Ok(batch)
    }

    async fn checkpoint(&self, batches: Vec<usize>) -> Result<Flow, JobError> {
        self.groups.borrow_mut().push(batches.len());
        for batch in batches {
            self.note("checkpoint", batch);
            let flow = (self.checkpoint)(batch).await?;
            self.note("written", batch);
            if flow == Flow::Stop {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }
}

fn sizer(in_flight: usize) -> Sizer {
    Sizer::new(100, in_flight, Duration::ZERO)
}

async fn never() -> End {
    std::future::pending().await
}

/// What is in hand may take its time.
fn far() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// Time is paused: a loop that hangs fails here at once.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_hours(1), work).await.expect("the loop hangs")
}

#[tokio::test(start_paused = true)]
async fn checkpoints_come_in_the_order_of_claims_whatever_finishes_first() {
    let fake = Fake::new(
        9,
        async |batch| {
            tokio::time::sleep(Duration::from_secs(9 - batch as u64)).await;
            Ok(())
        },
        async |_| Ok(Flow::Continue),
    );
    assert_eq!(within(run_until(never(), far(), &sizer(4), &fake)).await, Ok(End::Exhausted));
    assert_eq!(fake.log_of("written"), (0..9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn claiming_and_working_go_on_while_a_checkpoint_is_written() {
    let second_worked = Notify::new();
    let fake = Fake::new(
        3,
        async |batch| {
            if batch == 1 {
                second_worked.notify_one();
            }
            Ok(())
        },
        async |batch| {
            if batch == 0 {
                second_worked.notified().await;
            }
            Ok(Flow::Continue)
        },
    );
    assert_eq!(within(run_until(never(), far(), &sizer(2), &fake)).await, Ok(End::Exhausted));
    assert_eq!(fake.log_of("written"), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_ready_together_share_a_checkpoint() {
    let fake = Fake::new(
        9,
        async |_| Ok(()),
        async |_| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(Flow::Continue)
        },
    );
    assert_eq!(within(run_until(never(), far(), &sizer(4), &fake)).await, Ok(End::Exhausted));
    assert_eq!(*fake.groups.borrow(), [1, 4, 4]);
    assert_eq!(fake.log_of("written"), (0..9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn no_more_batches_share_a_checkpoint_than_are_written_in_a_quarter_of_a_second() {
    let fake = Fake::new(
        9,
        async |_| Ok(()),
        async |_| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(Flow::Continue)
        },
    );
    assert_eq!(within(run_until(never(), far(), &sizer(4), &fake)).await, Ok(End::Exhausted));
    assert_eq!(*fake.groups.borrow(), [1, 2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn works_run_side_by_side_and_no_more_are_read_ahead_than_asked() {
    let (open, most) = (Cell::new(0_usize), Cell::new(0_usize));
    let fake = Fake::new(
        20,
        async |_| {
            open.set(open.get() + 1);
            most.set(most.get().max(open.get()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            open.set(open.get() - 1);
            Ok(())
        },
        async |_| Ok(Flow::Continue),
    );
    let began = Instant::now();
    within(run_until(never(), far(), &sizer(4), &fake)).await.unwrap();
    assert_eq!(most.get(), 4);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_checkpoint_in_hand_and_drops_the_rest() {
    let (stop, stopped) = oneshot::channel();
    let stop = Cell::new(Some(stop));
    let fake = Fake::new(
        100,
        async |_| Ok(()),
        async |batch| {
            if batch == 2 {
                stop.take().unwrap().send(()).unwrap();
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            Ok(Flow::Continue)
        },
    );
    let quit = async {
        stopped.await.unwrap();
        End::Stopped
    };
    assert_eq!(within(run_until(quit, far(), &sizer(4), &fake)).await, Ok(End::Stopped));
    let written = fake.log_of("written");
    assert!(written.contains(&2) && written.len() <= 6, "{written:?}");
    assert_eq!(fake.log_of("checkpoint"), written);
}

/// The same, with effects outside.
struct Acting<W, C>(Fake<W, C>);

impl<W, C> Batch for Acting<W, C>
where
    W: AsyncFn(usize) -> Result<(), JobError>,
    C: AsyncFn(usize) -> Result<Flow, JobError>,
{
    type Claimed = usize;
    type Worked = usize;
    const ACTS: bool = true;

    async fn claim(&self, size: usize) -> Result<Option<usize>, JobError> {
        self.0.claim(size).await
    }

    async fn work(&self, batch: usize) -> Result<usize, JobError> {
        self.0.work(batch).await
    }

    async fn checkpoint(&self, batches: Vec<usize>) -> Result<Flow, JobError> {
        self.0.checkpoint(batches).await
    }
}

#[tokio::test(start_paused = true)]
async fn work_with_effects_outside_is_finished_and_written_after_a_stop() {
    let quit = || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        End::Stopped
    };
    // Every third never ends.
    let work = async |batch| {
        tokio::time::sleep(if batch % 3 == 2 { Duration::MAX } else { Duration::from_secs(1) }).await;
        Ok(())
    };
    let acting = Acting(Fake::new(100, work, async |_| Ok(Flow::Continue)));
    assert_eq!(within(run_until(quit(), far(), &sizer(4), &acting)).await, Ok(End::Stopped));
    assert_eq!(acting.0.log_of("written"), [0, 1], "what is ready does not wait for what never is");
    let began = Instant::now();
    let latest = began + Duration::from_secs(2);
    assert_eq!(within(run_until(quit(), latest, &sizer(4), &acting)).await, Ok(End::Stopped));
    assert_eq!(began.elapsed(), Duration::from_secs(2), "the run's own end is kept");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_does_not_end_after_a_stop_is_dropped() {
    let fake = Fake::new(3, async |_| Ok(()), async |_| std::future::pending().await);
    let quit = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        End::Stopped
    };
    let began = Instant::now();
    assert_eq!(within(run_until(quit, far(), &sizer(1), &fake)).await, Ok(End::Stopped));
    assert_eq!(began.elapsed(), Duration::from_secs(1) + PATIENCE);
    assert!(fake.log_of("written").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_when_there_is_no_time_at_all() {
    let fake = Fake::new(3, async |_| Ok(()), async |_| Ok(Flow::Continue));
    assert_eq!(within(run_until(async { End::OutOfTime }, far(), &sizer(4), &fake)).await, Ok(End::OutOfTime));
    assert!(fake.log.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_work_is_told_after_the_batches_before_it_are_written() {
    let fake = Fake::new(
        9,
        async |batch| if batch == 3 { Err(JobError::data("bad")) } else { Ok(()) },
        async |_| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Flow::Continue)
        },
    );
    assert_eq!(within(run_until(never(), far(), &sizer(8), &fake)).await, Err(JobError::data("bad")));
    assert_eq!(fake.log_of("written"), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_claim_is_told_after_the_batches_before_it_are_written() {
    struct Broken(Cell<usize>, Cell<usize>);
    impl Batch for Broken {
        type Claimed = ();
        type Worked = ();
        async fn claim(&self, _: usize) -> Result<Option<()>, JobError> {
            self.0.set(self.0.get() + 1);
            if self.0.get() > 2 { Err(JobError::retry("away")) } else { Ok(Some(())) }
        }
        async fn work(&self, (): ()) -> Result<(), JobError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
        async fn checkpoint(&self, batches: Vec<()>) -> Result<Flow, JobError> {
            self.1.set(self.1.get() + batches.len());
            Ok(Flow::Continue)
        }
    }
    let broken = Broken(Cell::new(0), Cell::new(0));
    assert_eq!(within(run_until(never(), far(), &sizer(8), &broken)).await, Err(JobError::retry("away")));
    assert_eq!((broken.0.get(), broken.1.get()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_checkpoint_ends_the_loop() {
    let fake = Fake::new(
        9,
        async |_| Ok(()),
        async |batch| match batch {
            1 => Err(JobError::retry("lease lost")),
            _ => Ok(Flow::Continue),
        },
    );
    assert_eq!(within(run_until(never(), far(), &sizer(2), &fake)).await, Err(JobError::retry("lease lost")));
    assert_eq!(fake.log_of("written"), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_may_end_the_loop() {
    let fake = Fake::new(9, async |_| Ok(()), async |batch| Ok(if batch == 1 { Flow::Stop } else { Flow::Continue }));
    assert_eq!(within(run_until(never(), far(), &sizer(2), &fake)).await, Ok(End::Flow));
    assert_eq!(fake.log_of("written"), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn claims_keep_their_distance() {
    let fake = Fake::new(4, async |_| Ok(()), async |_| Ok(Flow::Continue));
    let began = Instant::now();
    within(run_until(never(), far(), &Sizer::new(10, 4, Duration::from_secs(3)), &fake)).await.unwrap();
    let at: Vec<u64> = fake.claimed_at.borrow().iter().map(|at| (*at - began).as_secs()).collect();
    assert_eq!(at, [0, 3, 6, 9]);
}

#[tokio::test(start_paused = true)]
async fn slow_checkpoints_make_batches_smaller() {
    let fake = Fake::new(
        6,
        async |_| Ok(()),
        async |batch| {
            tokio::time::sleep(Duration::from_secs(if batch < 3 { 2 } else { 0 })).await;
            Ok(Flow::Continue)
        },
    );
    within(run_until(never(), far(), &sizer(1), &fake)).await.unwrap();
    let sizes = fake.sizes.borrow();
    assert_eq!(sizes[0], 100);
    assert!(sizes.contains(&25), "{sizes:?}");
}

#[test]
fn batches_grow_again_up_to_their_limit_and_never_vanish() {
    let sizer = Sizer::new(10, 1, Duration::ZERO);
    let mut sizes = Vec::new();
    for took in [1500, 1500, 1500, 1500, 500, 10, 10, 10, 10, 10, 10, 10, 10] {
        sizer.learn(Duration::from_millis(took));
        sizes.push(sizer.size.get());
    }
    assert_eq!(sizes, [5, 2, 1, 1, 1, 2, 3, 4, 5, 7, 9, 10, 10]);
}
