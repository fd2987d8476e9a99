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
            self.book.count(&format!("fault: {}", fault.kind()));
            under_way.push(self.process.spawn(async move {
                if let Err(error) = world.carry_out(fault).await {
                    world.book.breach(
                        "the harness can do what is planned",
                        &format!("{}: {error:#}", fault.kind()),
                    );
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
        self.vendors.mend().await?;
        self.ground.start_s3().await?;
        self.sinks.mend().await?;
        self.fleet.mend();
        Ok(())
    }

    async fn carry_out(&self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill(role, instance, rest) => self.fleet.kill(role, instance, rest),
            Fault::Freeze(role, instance, time) => {
                self.fleet.freeze(role, instance);
                tokio::time::sleep(time).await;
                self.fleet.thaw(role, instance);
            }
            Fault::Stop(role, instance) => self.fleet.stop(role, instance),
            Fault::RestartPostgres { immediate } => self.ground.restart_postgres(immediate).await?,
            Fault::Disconnect(most) => {
                // The database may just be away, and then all connections are ended anyway.
                let ended = self.ground.disconnect(most).await.unwrap_or(0);
                self.book.add("connections to postgres ended", ended.unsigned_abs());
            }
            Fault::LapseNotices(instance, time) => {
                self.fleet.freeze(Role::Delivery, instance);
                // As before: a database that is away has nothing to lapse.
                drop(settle::lapse_notices(&self.ground.db).await);
                tokio::time::sleep(time).await;
                self.fleet.thaw(Role::Delivery, instance);
            }
            Fault::StorageAway(time) => {
                self.ground.kill_s3();
                tokio::time::sleep(time).await;
                self.ground.start_s3().await?;
            }
            Fault::VendorsFrozen(time) => {
                self.ground.freeze_vendors();
                tokio::time::sleep(time).await;
                self.ground.thaw_vendors();
            }
            Fault::Vendors(lie) => self.vendors.lie(&lie).await?,
            Fault::Sink(sink, mode, time) => {
                self.sinks.behave(sink, mode).await?;
                tokio::time::sleep(time).await;
                self.sinks.behave(sink, Mode::Well).await?;
            }
        }
        Ok(())
    }
}
