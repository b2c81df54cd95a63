//! The aggregators of one group, and what is done to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use e2e::metric_names::PARTITIONS_RESTORED;
use e2e::pipeline::Pipeline;
use e2e::{PATIENCE, ServerFault, Service, ServiceExit, Signal};
use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::progress::{Outages, Standstill};
use crate::aggregators::wait_until_published;
use crate::reference::{PublishedTopics, Settings};

/// Past the session's timeout, so that partitions move.
const FREEZE: Duration = Duration::from_millis(7_500);
/// A process that is live answers at once. Waiting longer would let others become live before they are killed.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_PROCESSES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AggregatorFault {
    /// `kill -9`, and a start at once.
    Kill,
    /// SIGTERM, and a start at once.
    Restart,
    /// SIGSTOP until the group has given its partitions to others; then SIGCONT.
    Freeze,
    /// One more process.
    ScaleOut,
    /// One process less, for good.
    ScaleIn,
    /// A second process with the same `instance`.
    SameInstance,
    /// Kafka is killed, and started again by its supervisor.
    KafkaKilled,
    /// Kafka is unavailable for seconds.
    KafkaStopped,
}

pub(super) const FAULTS_BY_WEIGHT: [AggregatorFault; 16] = {
    use AggregatorFault::{
        Freeze, KafkaKilled, KafkaStopped, Kill, Restart, SameInstance, ScaleIn, ScaleOut,
    };
    [
        Kill,
        Kill,
        Kill,
        Kill,
        Kill,
        Restart,
        Restart,
        Freeze,
        Freeze,
        ScaleOut,
        ScaleOut,
        ScaleOut,
        ScaleIn,
        SameInstance,
        KafkaKilled,
        KafkaStopped,
    ]
};

/// The processes of one group.
pub(super) struct ChaosGroup {
    pub(super) pipeline: Pipeline,
    pub(super) windows: Settings,
    pub(super) processes: BTreeMap<usize, Service>,
    outages: Outages,
    /// How often processes that are gone had restored a partition.
    restores: u64,
}

/// How often a process made a partition live after it had read records again; 0 if it is too young to answer.
async fn restores(process: &Service) -> u64 {
    match timeout(SCRAPE_TIMEOUT, process.metrics()).await {
        Ok(Ok(metrics)) => metrics.count(PARTITIONS_RESTORED),
        _ => 0,
    }
}

impl ChaosGroup {
    pub(super) fn new(pipeline: Pipeline, windows: Settings, outages: &Outages) -> Self {
        Self { pipeline, windows, processes: BTreeMap::new(), outages: outages.clone(), restores: 0 }
    }

    pub(super) fn start(&mut self, instance: usize) {
        let old = self.processes.insert(instance, self.spawn(instance));
        assert!(old.is_none());
    }

    /// The windows come from a file, the rest from the environment.
    fn spawn(&self, instance: usize) -> Service {
        let Settings { size, advance, grace, tau } = self.windows;
        let file = self.pipeline.harness.file(&format!("{size}.toml"));
        let windows = format!(
            "threads = 2\nstartup_deadline = \"5m\"\n[window]\nsize = \"{size}ms\"\nadvance = \"{advance}ms\"\ngrace = \"{grace}ms\"\nema_tau = \"{tau}ms\"\n"
        );
        std::fs::write(&file, windows).unwrap();
        let launch = self.pipeline.launch(&instance.to_string());
        let launch = launch.arguments(&["--config", file.to_str().unwrap()]);
        self.pipeline.harness.spawn("agg-producer", &launch).unwrap()
    }

    /// Takes a process out of the group, and remembers how often it had restored a partition.
    async fn take(&mut self, instance: usize) -> Service {
        let process = self.processes.remove(&instance).unwrap();
        self.restores += restores(&process).await;
        process
    }

    pub(super) async fn stop(&mut self, instance: usize) {
        self.supervise();
        let exit = self.take(instance).await.terminate().await.unwrap();
        let excused = self.outages.is_recent() && (exit.is_overdue() || exit.is_fenced());
        assert!(exit.status.success() || excused, "asked to stop: {exit:?}");
        if excused {
            println!("asked to stop after Kafka was unavailable: {}", exit.error);
        }
    }

    /// Restarts what has ended, as a supervisor would. Only a fence may end a process: when Kafka becomes unavailable while a member joins,
    /// the member may ask twice, and fence itself.
    pub(super) fn supervise(&mut self) {
        let mut ended: Vec<(usize, ServiceExit)> = Vec::new();
        for (instance, process) in &mut self.processes {
            ended.extend(process.try_exit().unwrap().map(|exit| (*instance, exit)));
        }
        for (instance, exit) in ended {
            assert!(exit.is_fenced(), "process {instance}: {exit:?}");
            println!("a process fenced itself and is restarted");
            self.processes.remove(&instance);
            self.start(instance);
        }
    }

    /// The survivor of two processes of the same instance. Mostly that is the younger one; but if both wait for Kafka, it is whichever
    /// joins last.
    async fn survivor(mut older: Service, mut younger: Service) -> Service {
        let end = Instant::now() + PATIENCE;
        loop {
            for (of, exit) in [older.try_exit().unwrap(), younger.try_exit().unwrap()].into_iter().enumerate()
            {
                let Some(exit) = exit else { continue };
                assert!(exit.is_fenced(), "{exit:?}");
                return if of == 0 { younger } else { older };
            }
            assert!(Instant::now() < end, "two processes of the same instance");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Injects a fault; false if the group is too small or too large for it.
    pub(super) async fn inject(&mut self, fault: AggregatorFault, rng: &mut Rng) -> bool {
        let members: Vec<usize> = self.processes.keys().copied().collect();
        let instance = *rng.choice(&members).unwrap();
        match fault {
            AggregatorFault::Kill => {
                // Dropped is killed.
                drop(self.take(instance).await);
                self.start(instance);
            }
            AggregatorFault::Restart => {
                self.stop(instance).await;
                self.start(instance);
            }
            AggregatorFault::Freeze => {
                let process = self.processes.get(&instance).unwrap();
                process.signal(Signal::SIGSTOP).unwrap();
                sleep(FREEZE).await;
                process.signal(Signal::SIGCONT).unwrap();
            }
            AggregatorFault::ScaleOut => {
                let free = (0..MAX_PROCESSES).find(|instance| !self.processes.contains_key(instance));
                let Some(free) = free else { return false };
                self.start(free);
            }
            AggregatorFault::ScaleIn if members.len() == 1 => return false,
            AggregatorFault::ScaleIn => self.stop(instance).await,
            AggregatorFault::SameInstance => {
                let older = self.processes.remove(&instance).unwrap();
                let survivor = Self::survivor(older, self.spawn(instance)).await;
                self.processes.insert(instance, survivor);
            }
            AggregatorFault::KafkaKilled => self.kill_kafka().await,
            AggregatorFault::KafkaStopped => {
                let servers = &self.pipeline.harness.servers;
                self.outages.begin();
                servers.inject(ServerFault::Stop, "kafka").await.unwrap();
                sleep(Duration::from_millis(rng.u64(0..12_000))).await;
                servers.inject(ServerFault::Start, "kafka").await.unwrap();
                self.outages.end();
            }
        }
        true
    }

    /// The next faults do not wait until Kafka is healthy.
    async fn kill_kafka(&self) {
        let (outages, servers) = (self.outages.clone(), self.pipeline.harness.servers.clone());
        outages.begin();
        servers.inject(ServerFault::Kill, "kafka").await.unwrap();
        tokio::spawn(async move {
            servers.inject(ServerFault::Start, "kafka").await.unwrap();
            outages.end();
        });
    }

    /// Waits for all averages; meanwhile processes that fence themselves are restarted.
    pub(super) async fn wait_until_published(&mut self) -> PublishedTopics {
        let (pipeline, windows) = (self.pipeline.clone(), self.windows);
        let mut published = std::pin::pin!(wait_until_published(&pipeline, &windows));
        loop {
            match timeout(Duration::from_secs(1), &mut published).await {
                Ok(published) => return published.unwrap(),
                Err(_) => self.supervise(),
            }
        }
    }

    /// Watches the group's progress until told to stop.
    pub(super) fn watch(&self, stop: &Arc<AtomicBool>) -> JoinHandle<Standstill> {
        let (pipeline, outages, stop) = (self.pipeline.clone(), self.outages.clone(), Arc::clone(stop));
        tokio::task::spawn_blocking(move || Standstill::watch(&pipeline, &outages, &stop))
    }

    /// How often a partition was restored.
    pub(super) async fn restores(&self) -> u64 {
        let mut all = self.restores;
        for process in self.processes.values() {
            all += restores(process).await;
        }
        all
    }
}
