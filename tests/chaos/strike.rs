//! Carrying out the plan: each fault at its time, and its end when it has one.

use std::{sync::Arc, time::Duration};

use shared::process::Process;
use tokio::time::Instant;

use crate::{
    book::Book,
    faults::{Fault, Strike},
    fleet::{Fleet, Role},
    ground::Ground,
    settle,
    sinks::{Mode, Sinks},
    vendors::Vendors,
};

/// What faults are counted under in the book when they are dealt.
pub const DEALT: &str = "faults dealt: ";
/// The same when they met something: a process that was alive, a request, a connection.
pub const STRUCK: &str = "faults that struck: ";

/// How long the last faults may take to end by themselves: restarts of Postgres, which wait for each other and for a recovery
/// under load, take the longest.
const LAST_MAX: Duration = Duration::from_secs(180);

/// Everything that can be struck.
#[derive(Clone)]
pub struct World {
    /// Postgres, storage and vendors.
    pub ground: Arc<Ground>,
    /// The processes of Kiln.
    pub fleet: Arc<Fleet>,
    /// The receivers of webhooks.
    pub sinks: Sinks,
    /// The levers of the vendors.
    pub vendors: Vendors,
    /// The book of the run.
    pub book: Arc<Book>,
    /// For what runs beside.
    pub process: Process,
}

impl World {
    /// Strikes as planned, and returns when the last fault has ended.
    pub async fn suffer(&self, plan: &[Strike], began: Instant) {
        let mut under_way = Vec::new();
        for strike in plan {
            tokio::time::sleep_until(began + strike.at).await;
            let (world, fault) = (self.clone(), strike.fault);
            self.book.count(&format!("{DEALT}{}", fault.kind()));
            under_way.push(self.process.spawn(async move {
                match world.carry_out(fault).await {
                    Ok(true) => world.book.count(&format!("{STRUCK}{}", fault.kind())),
                    Ok(false) => {}
                    Err(error) => world.book.breach(
                        "the harness can do what is planned",
                        &format!("{}: {error:#}", fault.kind()),
                    ),
                }
            }));
        }
        let last = futures::future::join_all(under_way);
        if tokio::time::timeout(LAST_MAX, last).await.is_err() {
            self.book.breach("the harness can do what is planned", "the last faults do not end");
        }
    }

    /// Brings everything back.
    ///
    /// # Errors
    /// When something does not come back.
    pub async fn mend(&self) -> anyhow::Result<()> {
        self.ground.thaw_vendors();
        for lie in self.vendors.struck().await? {
            self.book.count(&format!("{STRUCK}{}", Fault::Vendors(lie).kind()));
        }
        self.vendors.mend().await?;
        self.ground.start_s3().await?;
        self.sinks.mend().await?;
        self.fleet.mend();
        Ok(())
    }

    /// Does it, and says whether it met anything. Whether a request met a lie of the vendors shows when all is mended.
    async fn carry_out(&self, fault: Fault) -> anyhow::Result<bool> {
        Ok(match fault {
            Fault::Kill(role, instance, rest) => self.fleet.kill(role, instance, rest),
            Fault::Freeze(role, instance, time) => {
                let struck = self.fleet.freeze(role, instance);
                tokio::time::sleep(time).await;
                self.fleet.thaw(role, instance);
                struck
            }
            Fault::Stop(role, instance) => self.fleet.stop(role, instance),
            Fault::RestartPostgres { immediate } => {
                self.ground.restart_postgres(immediate).await?;
                true
            }
            Fault::Disconnect(most) => {
                // The database may just be away, and then all connections are ended anyway.
                let ended = self.ground.disconnect(most).await.unwrap_or(0);
                self.book.add("connections to postgres ended", ended.unsigned_abs());
                ended > 0
            }
            Fault::LapseNotices(instance, time) => {
                self.fleet.freeze(Role::Delivery, instance);
                // As before: a database that is away has nothing to lapse.
                let lapsed = settle::lapse_notices(&self.ground.db).await.unwrap_or(0);
                tokio::time::sleep(time).await;
                self.fleet.thaw(Role::Delivery, instance);
                lapsed > 0
            }
            Fault::StorageAway(time) => {
                let struck = self.ground.kill_s3();
                tokio::time::sleep(time).await;
                self.ground.start_s3().await?;
                struck
            }
            Fault::VendorsFrozen(time) => {
                self.ground.freeze_vendors();
                tokio::time::sleep(time).await;
                self.ground.thaw_vendors();
                true
            }
            Fault::Vendors(lie) => {
                self.vendors.lie(&lie).await?;
                false
            }
            Fault::Sink(sink, mode, time) => self.spoil(sink, mode, time).await?,
        })
    }

    /// Lets a receiver misbehave for a while; whether a webhook met it then. What finds nobody there nobody sees, so that counts
    /// as met.
    async fn spoil(&self, sink: usize, mode: Mode, time: Duration) -> anyhow::Result<bool> {
        let before = self.sinks.arrivals(sink);
        self.sinks.behave(sink, mode).await?;
        tokio::time::sleep(time).await;
        let struck = mode == Mode::Away || self.sinks.arrivals(sink) > before;
        self.sinks.behave(sink, Mode::Well).await?;
        Ok(struck)
    }
}
