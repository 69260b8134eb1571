//! Doing it again: dead letters after a correction, platform events from files.
//!
//! In: settings, what to replay. Out: one line of what became of it.
//! Never here: how a letter is judged (see `ingest`).

use crate::{
    cli::{ReplayArgs, ReplayEventsArgs},
    settings::Settings,
};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use ingest::{PlatformEvent, platform_events, replay_dead_letters};
use model::clock::Clock;
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use std::{collections::HashSet, fs, time::Duration};
use store_clickhouse::DeadLetterFilter;
use tokio_util::sync::CancellationToken;
use uplink::transport::open_event;

/// The most letters one call takes; a second call takes the next ones.
const LETTERS_MAX: u32 = 100_000;
/// How many events may be on their way to the broker at once.
const WINDOW: usize = 100;
/// How long the broker may be silent before we give up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries open dead letters again.
pub(crate) async fn dead_letters(settings: &Settings, args: ReplayArgs) -> Result<()> {
    let master = settings.master_key()?;
    let snapshot = super::postgres(settings).await?.snapshot(&master).await?;
    let store = super::clickhouse(settings)?;
    let filter = DeadLetterFilter {
        reason: args.reason,
        replayed: Some(false),
        limit: LETTERS_MAX,
        ..DeadLetterFilter::default()
    };
    let spinner = super::spinner("replaying dead letters");
    let now = Clock::Wall.now();
    let done = replay_dead_letters(&store, &snapshot, &filter, &settings.ingest.rules, now).await?;
    spinner.finish_and_clear();
    println!(
        "replayed {} dead letters: {} gave something new, {} only what is stored, {} refused again",
        done.letters, done.stored, done.duplicate, done.rejected
    );
    Ok(())
}

/// Publishes the events in the files as the platform would, each until the broker has it.
pub(crate) async fn events(
    settings: &Settings,
    args: &ReplayEventsArgs,
    shutdown: &CancellationToken,
) -> Result<()> {
    let mut events = Vec::new();
    for file in &args.files {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        match platform_events(&text) {
            Ok(found) => events.extend(found),
            Err(error) => eprintln!("{}: {error}; left out", file.display()),
        }
    }
    if events.is_empty() {
        bail!("no platform event in {} file(s)", args.files.len());
    }
    let bar = super::bar(u64::try_from(events.len()).unwrap_or(u64::MAX), "publishing");
    publish(settings, &events, &bar, shutdown).await?;
    bar.finish_and_clear();
    let now = Clock::Wall.now();
    // An event nobody can open is an uplink to ingest too: it ends as a dead letter.
    let uplinks = events
        .iter()
        .filter(|event| !open_event(&event.topic, &event.body, now).is_ok_and(|e| e.is_empty()))
        .filter(|event| subscribed(settings, &event.topic))
        .count();
    println!(
        "published {} events of {} files, {uplinks} of them uplinks",
        events.len(),
        args.files.len()
    );
    Ok(())
}

/// Whether ingest listens to this topic: a filter's `+` stands for one level.
fn subscribed(settings: &Settings, topic: &str) -> bool {
    settings.ingest.subscriptions.iter().any(|filter| {
        let (mut wanted, mut given) = (filter.split('/'), topic.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some("#"), _) => return true,
                (Some(level), Some(name)) if level == "+" || level == name => {}
                (None, Some(_)) | (Some(_), _) => return false,
            }
        }
    })
}

async fn publish(
    settings: &Settings,
    events: &[PlatformEvent],
    bar: &ProgressBar,
    shutdown: &CancellationToken,
) -> Result<()> {
    let broker = &settings.ingest.mqtt_url;
    let name = format!("tidemark-replay-{}", std::process::id());
    let mut options = MqttOptions::new(name, &broker.host, broker.port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password);
    }
    let (client, mut connection) = AsyncClient::new(options, WINDOW);
    let mut next = 0;
    // Packet identifiers the broker still owes an answer for.
    let mut owed: HashSet<u16> = HashSet::new();
    let mut sent = 0;
    let mut acknowledged = 0;
    while acknowledged < events.len() {
        while next < events.len() && next < acknowledged + WINDOW {
            let Some(event) = events.get(next) else { break };
            let given = client.try_publish(
                event.topic.as_str(),
                QoS::AtLeastOnce,
                false,
                event.body.clone(),
            );
            if given.is_err() {
                break;
            }
            next += 1;
        }
        let polled = tokio::select! {
            () = shutdown.cancelled() => bail!("stopped"),
            polled = tokio::time::timeout(PATIENCE, connection.poll()) => polled,
        };
        match polled.context("the broker does not answer")? {
            Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                sent += 1;
                owed.insert(id);
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                if owed.remove(&ack.pkid) {
                    acknowledged += 1;
                    bar.inc(1);
                }
            }
            Ok(_) => {}
            // What was on its way may or may not have arrived: say so instead of guessing.
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("broker {broker}: {acknowledged} of {sent} events acknowledged")
                });
            }
        }
    }
    drop(client.try_disconnect());
    // One more turn lets the goodbye out; whether it arrives does not matter.
    drop(tokio::time::timeout(Duration::from_secs(1), connection.poll()).await);
    Ok(())
}
