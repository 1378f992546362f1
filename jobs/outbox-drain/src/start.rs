//! Where a pass begins to read, and in which snapshot.

use job::JobError;
use outbox::Sink;
use store::outbox::{
    pages::{self, Place},
    partitions,
};
use tokio::time::Instant;
use tracing::warn;

use crate::{drain::Drain, horizon::Start};

impl<S: Sink> Drain<'_, S> {
    /// Where the pass begins.
    pub(crate) async fn look(&self) -> Result<Start, JobError> {
        let look = self.ctx.db.transaction("look for open transactions", async |tx| pages::look(tx).await).await?;
        let now = Instant::now();
        let highest = self.lanes.borrow().iter().map(|(_, own)| own.floor).max().unwrap_or(0);
        if look.last < highest.max(self.horizon.borrow().hard()) {
            self.forget_floors(look.last).await?;
        }
        self.db_time.set(Some((look.now, now)));
        let mut start = self.horizon.borrow_mut().take_in(look, now);
        start.go_back |= self.cut_short.get();
        Ok(start)
    }

    /// Everything that the look says cannot appear any more is in the snapshot, since that is taken later.
    pub(crate) async fn begin_to_read(&self, mut start: Start) -> Result<Start, JobError> {
        let what = "begin to read events";
        let mut snapshot = self.ctx.db.snapshot(what, pages::HOLD).await?;
        if self.horizon.borrow().leaves_out() {
            let unseen = snapshot.read(what, async |tx| pages::unseen(tx).await).await?;
            start.go_back |= self.horizon.borrow().is_overtaken(&unseen);
        }
        self.snapshot.replace(Some(snapshot));
        Ok(start)
    }

    /// Nothing more is read in this pass.
    pub(crate) async fn end_snapshot(&self) {
        let snapshot = self.snapshot.take();
        if let Some(snapshot) = snapshot {
            snapshot.end().await;
        }
    }

    /// The numbers have gone back: PostgreSQL was restored to an earlier state, and what comes will lie below the floors.
    async fn forget_floors(&self, last: i64) -> Result<(), JobError> {
        warn!(
            last,
            "the outbox has gone back to an earlier number: PostgreSQL was restored; reading from the beginning"
        );
        let owned = {
            let mut lanes = self.lanes.borrow_mut();
            for (_, own) in lanes.iter_mut() {
                own.floor = 0;
                own.is_fresh = true;
            }
            lanes.owned()
        };
        let what = "forget the floors";
        self.ctx.db.transaction(what, async |tx| partitions::forget_floors(tx, &owned).await).await?;
        self.horizon.take();
        self.soft.set(0);
        Ok(())
    }

    /// Places each bucket at its floor, or at what is due below it.
    pub(crate) fn place(&self, start: Start) {
        let lanes = self.lanes.borrow();
        let due = self.held.borrow().lowest_due();
        let soft = self.soft.get();
        let place = |(bucket, partition): (i16, i16)| {
            let own = lanes.get(partition)?;
            let from = if start.go_back || own.is_fresh { own.floor } else { own.floor.max(soft) };
            let due = due.get(&bucket).map_or(i64::MAX, |seq| seq - 1);
            Some(Place { bucket, after: from.min(due) })
        };
        self.places.borrow_mut().begin(lanes.buckets().into_iter().filter_map(place));
    }
}
