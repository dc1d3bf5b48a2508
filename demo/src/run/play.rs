//! The day itself: steps to the application's database and to the log, at the pace that is asked for.
//!
//! One task plays the steps in the order of time, one thread is the application. At full speed the day waits for the node
//! when too many canaries are under way, so that latency is that of a loaded system and not that of an endless queue.

use std::sync::Arc;
use std::time::Duration;

use sunseo_client::{Client, Producer, ProducerConfig, Record};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::canary::{Moments, is_canary};
use crate::app::Application;
use crate::config::{DemoConfig, Rate};
use crate::error::{DemoError, Result};
use crate::event::{GpsPoint, OrderStep, Status, Step, Transaction};
use crate::node::Progress;
use crate::simulator::Simulator;
use crate::topics::RIDER_GPS;
use crate::truth::Truth;

/// Transactions that wait for the application.
const QUEUED_MAX: usize = 256;

/// Positions are tried for so long: longer than any restart.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(600);

/// Orders under way between application and counts beyond which the day waits, about.
const ORDERS_AHEAD: u32 = 1_000;
/// Canaries under way, at least.
const CANARIES_AHEAD_MIN: u64 = 2;

/// The two numbers that others follow during the day.
#[derive(Debug)]
pub struct Signals {
    /// Orders made.
    pub orders: watch::Sender<u32>,
    /// Canaries counted by the node.
    pub seen: watch::Receiver<u64>,
    /// Moments at which canaries were committed.
    pub committed: Moments,
}

struct Player<'a> {
    config: &'a DemoConfig,
    progress: &'a dyn Progress,
    producer: Producer,
    application: mpsc::Sender<OrderStep>,
    signals: Signals,
    begin: Instant,
    created: u32,
    canaries: u64,
    canaries_ahead_max: u64,
    /// The node has not answered for the whole of the patience: it is not waited for again.
    tired: bool,
}

/// Plays the day to its end: everything is committed and every position acknowledged when it returns. Gives back the
/// application, with its database still open.
///
/// # Errors
/// When the database fails, or positions cannot be delivered.
pub async fn play(
    client: &Client,
    config: &DemoConfig,
    simulator: Simulator,
    truth: &mut Truth,
    (application, signals): (Application, Signals),
    progress: &Arc<dyn Progress>,
) -> Result<Application> {
    let producer = ProducerConfig { delivery_timeout: DELIVERY_TIMEOUT, ..ProducerConfig::default() };
    let producer = client.producer(producer).map_err(DemoError::request("opening a producer"))?;
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    let committed = signals.committed.clone();
    let worker = tokio::task::spawn_blocking(move || work(application, receiver, &committed));
    let canary_every = u64::from(simulator.canary_every());
    let mut player = Player {
        config,
        progress: progress.as_ref(),
        producer,
        application: sender,
        signals,
        begin: Instant::now(),
        created: 0,
        canaries: 0,
        canaries_ahead_max: (u64::from(ORDERS_AHEAD) / canary_every).max(CANARIES_AHEAD_MIN),
        tired: false,
    };
    let mut played = Ok(());
    for step in simulator {
        truth.apply(&step);
        played = player.step(step).await;
        if played.is_err() {
            break;
        }
    }
    let Player { producer, application, .. } = player;
    drop(application);
    let worked = worker.await.map_err(|e| DemoError::Internal(format!("the application: {e}")))?;
    // the application's own error first: it is why nothing could be queued
    let application = worked?;
    played?;
    producer.close().await.map_err(|error| DemoError::request("sending positions")(error.into()))?;
    Ok(application)
}

/// The application's thread.
fn work(
    mut application: Application,
    mut steps: mpsc::Receiver<OrderStep>,
    committed: &Moments,
) -> Result<Application> {
    while let Some(step) = steps.blocking_recv() {
        application.perform(&step)?;
        if is_canary(&step) {
            committed.note();
        }
    }
    Ok(application)
}

impl Player<'_> {
    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Gps(point) => self.position(point).await,
            Step::Order(step) => self.order(step).await,
        }
    }

    async fn position(&self, point: GpsPoint) -> Result<()> {
        let record = Record::new(point.rider.to_string(), point.to_json(), point.at_ms);
        let sent = self.producer.send(RIDER_GPS, record).await;
        // closing the producer waits for all acknowledgements and tells of the first that failed
        sent.map(drop).map_err(DemoError::request("sending positions"))
    }

    async fn order(&mut self, step: OrderStep) -> Result<()> {
        let begins = step.event.status == Status::Created && step.transaction != Transaction::RollBack;
        if begins {
            self.wait_for_pace().await;
            self.wait_for_node().await;
        }
        self.canaries += u64::from(is_canary(&step));
        if self.application.send(step).await.is_err() {
            return Err(DemoError::Internal("the application has ended".to_owned()));
        }
        if begins {
            self.created += 1;
            self.signals.orders.send_replace(self.created);
            self.progress.done(1);
        }
        Ok(())
    }

    async fn wait_for_pace(&self) {
        if let Rate::PerSecond(rate) = self.config.rate {
            let due = self.begin + Duration::from_secs_f64(f64::from(self.created) / rate);
            tokio::time::sleep_until(due).await;
        }
    }

    async fn wait_for_node(&mut self) {
        let through = self.canaries.saturating_sub(self.canaries_ahead_max);
        let patience = Duration::from_secs(self.config.patience_s);
        while !self.tired && *self.signals.seen.borrow_and_update() < through {
            // any canary is a sign of life; an error says that nobody looks any more
            let changed = tokio::time::timeout(patience, self.signals.seen.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                self.tired = true;
                self.progress
                    .note("the node counts nothing any more: the day goes on without waiting for it");
            }
        }
    }
}
