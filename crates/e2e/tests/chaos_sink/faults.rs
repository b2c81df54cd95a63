//! What is done to a sink at work, each with the sign that it has taken hold, and its end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::avro::codec::Encoder;
use common::avro::schema::MOVING_AVERAGE;
use common::config::SchemaRegistryConfig;
use common::model::Trade;
use e2e::faults::Action;
use e2e::names::{CONNECT_UP, CONNECTOR_STATE, TASK_STATE};
use e2e::published::{Publisher, average, now, trade};
use e2e::sink::Sink;
use reqwest::Method;
use serde_json::{Value, json};

const TRADES: &str = "/connectors/kstream-trades";
/// 1 while a record, or the table, keeps the connector from going on.
const REFUSED: &str = "jdbc_sink_refused{connector=\"kstream-trades\"}";

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
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
    RecordRefused,
    RecordUnstorable,
    SchemaRegisteredLater,
}

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
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
        Self::RecordRefused,
        Self::RecordUnstorable,
        Self::SchemaRegisteredLater,
    ];

    /// Does it and ends it; `long` outages are those of the field. Says if it could not be done.
    pub(crate) async fn strike(self, sink: &Sink, long: bool) -> anyhow::Result<Option<String>> {
        let outage = |seconds| Duration::from_secs(if long { seconds } else { 5 });
        match self {
            Self::PostgresKilledAndAway => postgres_killed_and_away(sink, outage(120)).await?,
            Self::ConnectKilled => connect_killed(sink).await?,
            Self::RegistryAwayAndCachesCold => registry_away(sink).await?,
            Self::BrokerKilled => {
                sink.stack.fault(Action::Kill, "kafka")?;
                sink.stack.fault(Action::Start, "kafka")?;
            }
            Self::TableLocked => table_locked(sink, outage(60)).await?,
            Self::DiskFull => return disk_full(sink).await,
            Self::ConnectorDeleted => {
                let before = applied(sink).await?;
                sink.connect(Method::DELETE, TRADES).await?;
                applied_again(sink, before).await?;
            }
            Self::ConnectorChanged => connector_changed(sink).await?,
            Self::ConnectorPaused => connector_paused(sink).await?,
            Self::ConfigTopicLost => config_topic_lost(sink).await?,
            Self::RecordRefused => record_refused(sink).await?,
            Self::RecordUnstorable => record_unstorable(sink).await?,
            Self::SchemaRegisteredLater => schema_registered_later(sink).await?,
        }
        Ok(None)
    }
}

/// Waits until a metric of the connector of the trades, or one without labels, is so high.
async fn shows(sink: &Sink, metric: &str, value: f64) -> anyhow::Result<()> {
    sink.until(&format!("{metric} {value}"), async || Ok(sink.metric(metric).await? == Some(value))).await
}

/// Waits until the connector of the trades is in that state.
async fn connector_is(sink: &Sink, state: &str) -> anyhow::Result<()> {
    shows(sink, &format!("{CONNECTOR_STATE}{{connector=\"kstream-trades\",state=\"{state}\"}}"), 1.0).await
}

/// Both connectors run.
async fn well(sink: &Sink) -> anyhow::Result<()> {
    sink.until("both connectors run", async || Ok(sink.ready().await?.is_none())).await
}

/// How often the watcher has made the connector of the trades what it ought to be.
async fn applied(sink: &Sink) -> anyhow::Result<f64> {
    let count = sink.metric("jdbc_sink_connector_applied_total{connector=\"kstream-trades\"}").await?;
    Ok(count.unwrap_or_default())
}

/// It has done so once more, and both run.
async fn applied_again(sink: &Sink, before: f64) -> anyhow::Result<()> {
    let again = async || Ok(applied(sink).await? > before);
    sink.until("the connector is made anew, or put back", again).await?;
    well(sink).await
}

/// Killed, and kept from starting again.
async fn postgres_killed_and_away(sink: &Sink, outage: Duration) -> anyhow::Result<()> {
    sink.stack.fault(Action::Kill, "postgres")?;
    sink.stack.fault(Action::Stop, "postgres")?;
    let failed = ["kstream-trades", "kstream-moving-averages"]
        .map(|connector| format!("{TASK_STATE}{{connector=\"{connector}\",task=\"0\",state=\"FAILED\"}}"));
    sink.until("a task has failed", async || {
        let states = [sink.metric(&failed[0]).await?, sink.metric(&failed[1]).await?];
        Ok(states.contains(&Some(1.0)))
    })
    .await?;
    tokio::time::sleep(outage).await;
    sink.stack.fault(Action::Start, "postgres")
}

async fn connect_killed(sink: &Sink) -> anyhow::Result<()> {
    sink.stack.fault(Action::Kill, "connect")?;
    shows(sink, CONNECT_UP, 0.0).await?;
    sink.stack.fault(Action::Start, "connect")
}

/// Restarted connectors have converters that know no schema yet; what they read now becomes dead letters, and is brought back.
async fn registry_away(sink: &Sink) -> anyhow::Result<()> {
    const BACK: &str = "jdbc_sink_dead_letters_brought_back{connector=\"kstream-trades\"}";
    let before = sink.metric(BACK).await?.unwrap_or_default();
    let letters = dead_letters(sink)?;
    sink.stack.fault(Action::Stop, "registry")?;
    sink.connect(Method::POST, &format!("{TRADES}/restart?includeTasks=true")).await?;
    sink.until("good records become dead letters", async || Ok(dead_letters(sink)? > letters)).await?;
    sink.stack.fault(Action::Start, "registry")?;
    let back = async || Ok(sink.metric(BACK).await?.unwrap_or_default() > before);
    sink.until("they are brought back", back).await
}

/// How many dead letters of trades there are.
fn dead_letters(sink: &Sink) -> anyhow::Result<i64> {
    use common::kafka::client::{Role, config};
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = config(&sink.stack.kafka()?, "e2e", &Role::Reader).create()?;
    let topic = format!("{}.connect-dlq", sink.trades);
    let ends = (0..6).map(|partition| {
        consumer.fetch_watermarks(&topic, partition, Duration::from_secs(10)).map(|(_, end)| end)
    });
    Ok(ends.sum::<Result<i64, _>>()?)
}

async fn table_locked(sink: &Sink, outage: Duration) -> anyhow::Result<()> {
    let mut client = sink.database().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE").await?;
    let other = sink.database().await?;
    let waiting =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%trades%'";
    sink.until("the connector waits for the table", async || {
        Ok(other.query_one(waiting, &[]).await?.try_get(0)?)
    })
    .await?;
    tokio::time::sleep(outage).await;
    Ok(transaction.commit().await?)
}

/// The table moves to a file system of its own, so small that it is soon full; then it is given room again.
async fn disk_full(sink: &Sink) -> anyhow::Result<Option<String>> {
    let folder = std::env::temp_dir().join(format!("kstream-full-{}", std::process::id()));
    let client = sink.database().await?;
    let bytes: i64 = client.query_one("SELECT pg_relation_size('trades')", &[]).await?.try_get(0)?;
    let megabytes = bytes / (1 << 20) + 8;
    if let Err(error) = mount(&folder, megabytes) {
        return Ok(Some(format!(
            "DISK FULL WAS NOT TESTED: a small file system cannot be mounted here: {error:#}"
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

async fn fill_up(sink: &Sink, client: &tokio_postgres::Client, folder: &Path) -> anyhow::Result<()> {
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display())).await?;
    client.batch_execute("ALTER TABLE trades SET TABLESPACE small").await?;
    let filler = folder.join("filler");
    // Ends with an error: that is the point of it.
    Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output()?;
    let told =
        async || Ok(sink.ask(&["status", "--json"])?.1.to_string().contains("No space left on device"));
    sink.until("status tells that the disk is full", told).await?;
    std::fs::remove_file(filler)?;
    well(sink).await
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
async fn connector_changed(sink: &Sink) -> anyhow::Result<()> {
    let before = applied(sink).await?;
    let config = json!({"batch.size": "17", "errors.tolerance": "none"});
    sink.connect_with(Method::PATCH, &format!("{TRADES}/config"), Some(config)).await?;
    applied_again(sink, before).await
}

async fn connector_paused(sink: &Sink) -> anyhow::Result<()> {
    sink.connect(Method::PUT, &format!("{TRADES}/pause")).await?;
    connector_is(sink, "PAUSED").await?;
    sink.connect(Method::PUT, &format!("{TRADES}/resume")).await?;
    well(sink).await
}

async fn config_topic_lost(sink: &Sink) -> anyhow::Result<()> {
    use common::kafka::client::{Role, config};
    use rdkafka::admin::{AdminClient, AdminOptions};
    let before = applied(sink).await?;
    sink.stack.fault(Action::Stop, "connect")?;
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        config(&sink.stack.kafka()?, "e2e", &Role::Admin).create()?;
    for result in admin.delete_topics(&["kstream-connect-configs"], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    sink.stack.fault(Action::Start, "connect")?;
    applied_again(sink, before).await
}

/// A table that takes no trade that is sold: told with the record's place, and not hammered.
async fn record_refused(sink: &Sink) -> anyhow::Result<()> {
    const RESTARTS: &str = "jdbc_sink_restarts_total{connector=\"kstream-trades\"}";
    let client = sink.database().await?;
    client
        .batch_execute("ALTER TABLE trades ADD CONSTRAINT by_hand CHECK (direction <> 'sell') NOT VALID")
        .await?;
    shows(sink, REFUSED, 1.0).await?;
    let ready = sink.ready().await?.unwrap_or_default();
    ensure!(ready.contains(&sink.trades), "/ready does not name the record's topic: {ready}");
    let (_, status) = sink.ask(&["status", "--json"])?;
    ensure!(status["connectors"][0]["obstacle"]["kind"] == "record", "status does not say so: {status:#}");
    let restarts = sink.metric(RESTARTS).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(sink.metric(RESTARTS).await? == restarts, "it is restarted all the same");
    client.batch_execute("ALTER TABLE trades DROP CONSTRAINT by_hand").await?;
    well(sink).await?;
    ensure!(sink.metric(REFUSED).await? == Some(0.0), "the metric stays");
    Ok(())
}

/// A text that Postgres has no room for, in a record that is otherwise good: told with its place and column, and passed over.
async fn record_unstorable(sink: &Sink) -> anyhow::Result<()> {
    let mut publisher = Publisher::new(&sink.stack, &sink.trades, &sink.averages).await?;
    let unstorable =
        Trade { liquidation: Some("\0".into()), instrument_name: "NUL".into(), ..trade(0, now()) };
    publisher.trade(&unstorable)?;
    publisher.flush()?;
    shows(sink, REFUSED, 1.0).await?;
    let ready = sink.ready().await?.unwrap_or_default();
    let (_, status) = sink.ask(&["status", "--json"])?;
    let obstacle = &status["connectors"][0]["obstacle"];
    let detail = obstacle["detail"].as_str().unwrap_or_default();
    ensure!(obstacle["topic"] == sink.trades && obstacle["column"] == "liquidation", "{status:#}");
    ensure!(detail.contains("invalid byte sequence"), "{status:#}");
    let (partition, offset) = (obstacle["partition"].to_string(), obstacle["offset"].to_string());
    for name in [&sink.trades, &partition, &offset, "liquidation", detail] {
        ensure!(ready.contains(name), "{name:?} is not in what /ready says: {ready}");
    }
    let place = ["--topic", &sink.trades, "--partition", &partition, "--offset", &offset];
    let output = sink.run(&[&["pass-over"], &place[..]].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    well(sink).await
}

/// A record whose schema gets into the registry after it: a dead letter at first, which is brought back then, once.
async fn schema_registered_later(sink: &Sink) -> anyhow::Result<()> {
    const CONNECTOR: &str = "connector=\"kstream-moving-averages\"";
    let back = format!("jdbc_sink_dead_letters_brought_back{{{CONNECTOR}}}");
    let unknown = format!("jdbc_sink_dead_letters{{{CONNECTOR},reason=\"unknown_schema\"}}");
    let (backs, unknowns) = (sink.metric(&back).await?.unwrap_or(0.0), sink.metric(&unknown).await?);
    let (number, registry) = (now().unsigned_abs(), sink.stack.registry()?);
    // The registry counts its ids up by one.
    let id = register_again(&registry, &format!("before {number}")).await? + 1;
    // Another each second, years old like all that are made from their numbers.
    let average = average(1_000 + number / 1_000 % 10_000_000);
    let mut value = Vec::new();
    Encoder::new(&MOVING_AVERAGE, id).encode(&average, &mut value)?;
    let publisher = Publisher::new(&sink.stack, &sink.trades, &sink.averages).await?;
    publisher.raw(&sink.averages, Some(&value))?;
    publisher.flush()?;
    sink.until("its schema is unknown", async || {
        Ok(sink.metric(&unknown).await? == Some(unknowns.unwrap_or(0.0) + 1.0))
    })
    .await?;
    let registered = register_again(&registry, &format!("of {number}")).await?;
    ensure!(registered == id, "the registry gave it {registered}, not {id}");
    sink.until("it is brought back", async || Ok(sink.metric(&back).await? == Some(backs + 1.0))).await?;
    ensure!(sink.metric(&unknown).await? == unknowns, "it stays among the dead letters too");
    let rows = "SELECT count(*) FROM moving_averages WHERE instrument_name = $1 AND sma = $2 AND volume = $3";
    let row = sink
        .database()
        .await?
        .query_one(rows, &[&average.instrument_name.as_ref(), &average.sma, &average.volume])
        .await?;
    ensure!(row.try_get::<_, i64>(0)? == 1, "it has no row");
    Ok(())
}

/// The averages' schema once more, as another by its comment, under a subject of its own.
async fn register_again(registry: &SchemaRegistryConfig, comment: &str) -> anyhow::Result<u32> {
    let mut schema: Value = serde_json::from_str(MOVING_AVERAGE.text)?;
    schema["doc"] = comment.into();
    let url = format!("{}/subjects/later-{}/versions", registry.url, comment.replace(' ', "-"));
    let request = common::http::client()?.post(url).header("content-type", "application/json");
    let body = json!({"schema": schema.to_string()}).to_string();
    let answer: Value =
        serde_json::from_slice(&request.body(body).send().await?.error_for_status()?.bytes().await?)?;
    Ok(u32::try_from(answer["id"].as_u64().context("no id")?)?)
}
