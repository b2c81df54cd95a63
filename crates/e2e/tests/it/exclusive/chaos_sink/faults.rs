//! The faults of a sink at work: each is injected, seen to have taken effect, and ended.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::avro::codec::Encoder;
use common::avro::schema::MOVING_AVERAGE;
use common::config::SchemaRegistryConfig;
use common::kafka::client::{Role, config};
use common::model::Trade;
use e2e::fixtures::{FixtureWriter, average, now_millis, trade};
use e2e::metric_names::{
    CONNECT_UP, CONNECTOR_BLOCKED, CONNECTOR_CONFIG_UPDATES, CONNECTOR_RESTARTS, CONNECTOR_STATE,
    DEAD_LETTERS, DEAD_LETTERS_REQUEUED, TASK_STATE,
};
use e2e::sink::{AVERAGES_CONNECTOR, TRADES_CONNECTOR};
use e2e::{PATIENCE, ServerFault, eventually};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use reqwest::Method;
use serde_json::{Value, json};

use super::under_load::{SinkUnderLoad, status};

/// The path of the connector of the trades in Connect's REST API.
const TRADES: &str = "/connectors/kstream-trades";

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SinkFault {
    PostgresKilledAndAway,
    ConnectKilled,
    RegistryAwayAndCachesCold,
    BrokerKilled,
    TableLocked,
    DiskFull,
    ConnectorDeleted,
    ConnectorChanged,
    ConnectorPaused,
    ConfigTopicLost,
    RecordRejected,
    RecordUnstorable,
    SchemaRegisteredLater,
}

impl SinkFault {
    pub(super) const ALL: [Self; 13] = [
        Self::PostgresKilledAndAway,
        Self::ConnectKilled,
        Self::RegistryAwayAndCachesCold,
        Self::BrokerKilled,
        Self::TableLocked,
        Self::DiskFull,
        Self::ConnectorDeleted,
        Self::ConnectorChanged,
        Self::ConnectorPaused,
        Self::ConfigTopicLost,
        Self::RecordRejected,
        Self::RecordUnstorable,
        Self::SchemaRegisteredLater,
    ];

    /// Injects it and ends it. Returns the reason if it cannot be injected on this machine.
    pub(super) async fn inject(self, sink: &SinkUnderLoad) -> anyhow::Result<Option<String>> {
        let outage = |seconds| Duration::from_secs(if sink.long { seconds } else { 5 });
        match self {
            Self::PostgresKilledAndAway => postgres_killed_and_away(sink, outage(120)).await?,
            Self::ConnectKilled => connect_killed(sink).await?,
            Self::RegistryAwayAndCachesCold => registry_away(sink).await?,
            Self::BrokerKilled => {
                server(sink, ServerFault::Kill, "kafka").await?;
                server(sink, ServerFault::Start, "kafka").await?;
            }
            Self::TableLocked => table_locked(sink, outage(60)).await?,
            Self::DiskFull => return disk_full(sink).await,
            Self::ConnectorDeleted => {
                let before = count(sink, CONNECTOR_CONFIG_UPDATES).await?;
                connect(sink, Method::DELETE, "").await?;
                updated_again(sink, before).await?;
            }
            Self::ConnectorChanged => connector_changed(sink).await?,
            Self::ConnectorPaused => connector_paused(sink).await?,
            Self::ConfigTopicLost => config_topic_lost(sink).await?,
            Self::RecordRejected => record_rejected(sink).await?,
            Self::RecordUnstorable => record_unstorable(sink).await?,
            Self::SchemaRegisteredLater => schema_registered_later(sink).await?,
        }
        Ok(None)
    }
}

async fn server(sink: &SinkUnderLoad, fault: ServerFault, name: &'static str) -> anyhow::Result<()> {
    sink.sink.harness.servers.inject(fault, name).await
}

/// Sends a request about the connector of the trades to Connect.
async fn connect(sink: &SinkUnderLoad, method: Method, path: &str) -> anyhow::Result<()> {
    sink.sink.connect(method, &format!("{TRADES}{path}"), None).await
}

/// A metric of the connector of the trades.
async fn of_trades(sink: &SinkUnderLoad, metric: &str) -> anyhow::Result<f64> {
    sink.service.metrics().await?.get(&format!("{metric}{{connector=\"{TRADES_CONNECTOR}\"}}"))
}

/// A counter of the connector of the trades.
async fn count(sink: &SinkUnderLoad, metric: &str) -> anyhow::Result<u64> {
    let metric = format!("{metric}{{connector=\"{TRADES_CONNECTOR}\"}}");
    Ok(sink.service.metrics().await?.count(&metric))
}

/// Waits until one of our connectors, or its task, is in that state.
async fn wait_until_state(sink: &SinkUnderLoad, metric: &str, state: &str) -> anyhow::Result<()> {
    let suffix = format!("state=\"{state}\"}} 1");
    let in_state = async || {
        let metrics = sink.service.metrics().await?;
        Ok(metrics.0.lines().any(|line| line.starts_with(metric) && line.ends_with(&suffix)))
    };
    eventually(PATIENCE, &format!("{metric} {state}"), in_state).await
}

/// Waits until both connectors and their tasks run.
async fn wait_until_running(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    sink.service.wait_until_ready().await
}

/// Waits until the service has updated the connector of the trades once more, and both run.
async fn updated_again(sink: &SinkUnderLoad, before: u64) -> anyhow::Result<()> {
    let updated = async || Ok(count(sink, CONNECTOR_CONFIG_UPDATES).await? > before);
    eventually(PATIENCE, "the connector is created or put back", updated).await?;
    wait_until_running(sink).await
}

/// Killed, and kept from starting again.
async fn postgres_killed_and_away(sink: &SinkUnderLoad, outage: Duration) -> anyhow::Result<()> {
    server(sink, ServerFault::Kill, "postgres").await?;
    server(sink, ServerFault::Stop, "postgres").await?;
    wait_until_state(sink, TASK_STATE, "FAILED").await?;
    tokio::time::sleep(outage).await;
    server(sink, ServerFault::Start, "postgres").await
}

async fn connect_killed(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    server(sink, ServerFault::Kill, "connect").await?;
    let away = async || Ok(sink.service.metrics().await?.get(CONNECT_UP)? < 1.0);
    eventually(PATIENCE, "the service sees that Connect is away", away).await?;
    server(sink, ServerFault::Start, "connect").await
}

/// The converters of restarted connectors know no schema yet. The records that they read now become dead letters, and are requeued.
async fn registry_away(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let trades = &sink.sink.trades;
    let letters = || anyhow::Ok(sink.sink.dead_letters(trades)?.values().sum::<i64>());
    let (requeued, before) = (count(sink, DEAD_LETTERS_REQUEUED).await?, letters()?);
    server(sink, ServerFault::Stop, "registry").await?;
    connect(sink, Method::POST, "/restart?includeTasks=true").await?;
    let more = async || Ok(letters()? > before);
    eventually(PATIENCE, "good records become dead letters", more).await?;
    server(sink, ServerFault::Start, "registry").await?;
    let back = async || Ok(count(sink, DEAD_LETTERS_REQUEUED).await? > requeued);
    eventually(PATIENCE, "they are requeued", back).await
}

async fn table_locked(sink: &SinkUnderLoad, outage: Duration) -> anyhow::Result<()> {
    let mut client = sink.sink.database().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE").await?;
    let other = sink.sink.database().await?;
    let waiting =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%trades%'";
    let waits = async || Ok(other.query_one(waiting, &[]).await?.try_get(0)?);
    eventually(PATIENCE, "the connector waits for the table", waits).await?;
    tokio::time::sleep(outage).await;
    Ok(transaction.commit().await?)
}

/// The table moves to a file system of its own, so small that it is soon full; then it is given room again.
async fn disk_full(sink: &SinkUnderLoad) -> anyhow::Result<Option<String>> {
    let folder = std::env::temp_dir().join(format!("kstream-full-{}", std::process::id()));
    let client = sink.sink.database().await?;
    let bytes: i64 = client.query_one("SELECT pg_relation_size('trades')", &[]).await?.try_get(0)?;
    let megabytes = bytes / (1 << 20) + 8;
    if let Err(error) = mount(&folder, megabytes) {
        return Ok(Some(format!(
            "DISK BATCH_MAX WAS NOT TESTED: a small file system cannot be mounted here: {error:#}"
        )));
    }
    let full = fill_up(sink, &client, &folder).await;
    let moved = client.batch_execute("ALTER TABLE trades SET TABLESPACE pg_default").await;
    let dropped = client.batch_execute("DROP TABLESPACE small").await;
    run("umount", &["--lazy", &folder.display().to_string()])?;
    std::fs::remove_dir(&folder)?;
    full?;
    moved?;
    dropped?;
    Ok(None)
}

async fn fill_up(sink: &SinkUnderLoad, client: &tokio_postgres::Client, folder: &Path) -> anyhow::Result<()> {
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display())).await?;
    client.batch_execute("ALTER TABLE trades SET TABLESPACE small").await?;
    let filler = folder.join("filler");
    // Ends with an error when the disk is full, as it should.
    Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output()?;
    let reported = async || Ok(status(&sink.sink).await?.to_string().contains("No space left on device"));
    eventually(PATIENCE, "`status` shows that the disk is full", reported).await?;
    std::fs::remove_file(filler)?;
    wait_until_running(sink).await
}

fn mount(folder: &Path, megabytes: i64) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.display().to_string();
    let mounted =
        run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0700"), "tmpfs", &path])
            .and_then(|()| run("chown", &["postgres:", &path]));
    if mounted.is_err() {
        std::fs::remove_dir(folder).ok();
    }
    mounted
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Another batch size, and no dead-letter topic: the first converter error would end the task.
async fn connector_changed(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let before = count(sink, CONNECTOR_CONFIG_UPDATES).await?;
    let config = json!({"batch.size": "17", "errors.tolerance": "none"});
    sink.sink.connect(Method::PATCH, &format!("{TRADES}/config"), Some(config)).await?;
    updated_again(sink, before).await
}

async fn connector_paused(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    connect(sink, Method::PUT, "/pause").await?;
    wait_until_state(sink, CONNECTOR_STATE, "PAUSED").await?;
    connect(sink, Method::PUT, "/resume").await?;
    wait_until_running(sink).await
}

async fn config_topic_lost(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let before = count(sink, CONNECTOR_CONFIG_UPDATES).await?;
    server(sink, ServerFault::Stop, "connect").await?;
    let kafka = sink.sink.harness.servers.kafka()?;
    let admin: AdminClient<DefaultClientContext> = config(&kafka, "e2e", &Role::Admin).create()?;
    for result in admin.delete_topics(&["kstream-connect-configs"], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    server(sink, ServerFault::Start, "connect").await?;
    updated_again(sink, before).await
}

async fn wait_until_blocked(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let blocked = async || Ok(of_trades(sink, CONNECTOR_BLOCKED).await? > 0.0);
    eventually(PATIENCE, "the connector is blocked", blocked).await
}

/// Waits until `/ready` names all of these things; it shows what was found at the look before.
async fn wait_until_ready_names(sink: &SinkUnderLoad, names: &[&str]) -> anyhow::Result<()> {
    let named = async || {
        let ready = sink.service.not_ready().await?.context("it is ready")?;
        ensure!(names.iter().all(|name| ready.contains(name)), "{ready}");
        Ok(true)
    };
    eventually(PATIENCE, &format!("/ready names {names:?}"), named).await
}

/// A table that rejects every sale: reported as a record's fault, and not restarted in vain.
async fn record_rejected(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let client = sink.sink.database().await?;
    client
        .batch_execute("ALTER TABLE trades ADD CONSTRAINT by_hand CHECK (direction <> 'sell') NOT VALID")
        .await?;
    wait_until_blocked(sink).await?;
    wait_until_ready_names(sink, &[&sink.sink.trades]).await?;
    let report = status(&sink.sink).await?;
    ensure!(report["connectors"][0]["blocked_by"]["kind"] == "record", "{report:#}");
    let restarts = count(sink, CONNECTOR_RESTARTS).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(count(sink, CONNECTOR_RESTARTS).await? == restarts, "it is restarted in vain");
    client.batch_execute("ALTER TABLE trades DROP CONSTRAINT by_hand").await?;
    wait_until_running(sink).await?;
    ensure!(of_trades(sink, CONNECTOR_BLOCKED).await? < 1.0, "the metric stays");
    Ok(())
}

/// A text that Postgres cannot store, in a record that is otherwise good: reported with its position and column, and skipped.
async fn record_unstorable(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let fixture = &sink.sink;
    let mut writer = FixtureWriter::new(&fixture.harness.servers, &fixture.trades, &fixture.averages).await?;
    let unstorable =
        Trade { liquidation: Some("\0".into()), instrument_name: "NUL".into(), ..trade(0, now_millis()) };
    writer.trade(&unstorable)?;
    writer.flush()?;
    wait_until_blocked(sink).await?;
    let report = status(&sink.sink).await?;
    let obstacle = &report["connectors"][0]["blocked_by"];
    let detail = obstacle["detail"].as_str().unwrap_or_default();
    ensure!(obstacle["topic"] == fixture.trades && obstacle["column"] == "liquidation", "{report:#}");
    ensure!(detail.contains("invalid byte sequence"), "{report:#}");
    let (partition, offset) = (obstacle["partition"].to_string(), obstacle["offset"].to_string());
    wait_until_ready_names(sink, &[&fixture.trades, &partition, &offset, "liquidation", detail]).await?;
    let position = ["--topic", &fixture.trades, "--partition", &partition, "--offset", &offset];
    let exit = fixture.run(&[&["skip"], &position[..]].concat()).await?;
    ensure!(exit.status.success(), "{exit:?}");
    wait_until_running(sink).await
}

/// A record whose schema is registered after it: a dead letter at first, which is requeued then, once.
async fn schema_registered_later(sink: &SinkUnderLoad) -> anyhow::Result<()> {
    let labels = format!("connector=\"{AVERAGES_CONNECTOR}\"");
    let requeued = format!("{DEAD_LETTERS_REQUEUED}{{{labels}}}");
    let unknown = format!("{DEAD_LETTERS}{{{labels},reason=\"unknown_schema\"}}");
    let counts = async || {
        let metrics = sink.service.metrics().await?;
        anyhow::Ok((metrics.count(&requeued), metrics.count(&unknown)))
    };
    let (requeued_before, unknown_before) = counts().await?;
    let (number, servers) = (now_millis().unsigned_abs(), &sink.sink.harness.servers);
    let registry = servers.registry()?;
    // The registry counts its ids up by one.
    let id = register_variant(&registry, &format!("before {number}")).await? + 1;
    // Another one each second, years old like all that are made from their numbers.
    let average = average(1_000 + number / 1_000 % 10_000_000);
    let mut value = Vec::new();
    Encoder::new(&MOVING_AVERAGE, id).encode(&average, &mut value)?;
    let writer = FixtureWriter::new(servers, &sink.sink.trades, &sink.sink.averages).await?;
    writer.raw(&sink.sink.averages, Some(&value))?;
    writer.flush()?;
    let is_unknown = async || Ok(counts().await? == (requeued_before, unknown_before + 1));
    eventually(PATIENCE, "its schema is unknown", is_unknown).await?;
    let registered = register_variant(&registry, &format!("of {number}")).await?;
    ensure!(registered == id, "the registry gave it {registered}, not {id}");
    let is_requeued = async || Ok(counts().await? == (requeued_before + 1, unknown_before));
    eventually(PATIENCE, "it is requeued", is_requeued).await?;
    let rows = "SELECT count(*) FROM moving_averages WHERE instrument_name = $1 AND sma = $2 AND volume = $3";
    let client = sink.sink.database().await?;
    let row =
        client.query_one(rows, &[&average.instrument_name.as_ref(), &average.sma, &average.volume]).await?;
    ensure!(row.try_get::<_, i64>(0)? == 1, "it has no row");
    Ok(())
}

/// Registers the averages' schema with another comment, which makes it another schema, under a subject of its own.
async fn register_variant(registry: &SchemaRegistryConfig, comment: &str) -> anyhow::Result<u32> {
    let mut schema: Value = serde_json::from_str(MOVING_AVERAGE.text)?;
    schema["doc"] = comment.into();
    let url = format!("{}/subjects/later-{}/versions", registry.url, comment.replace(' ', "-"));
    let request = e2e::http().post(url).header("content-type", "application/json");
    let body = json!({"schema": schema.to_string()}).to_string();
    let answer: Value =
        serde_json::from_slice(&request.body(body).send().await?.error_for_status()?.bytes().await?)?;
    Ok(u32::try_from(answer["id"].as_u64().context("no id")?)?)
}
