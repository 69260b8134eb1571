//! The CoAP gateway in front of NB-IoT meters.
//!
//! In: CoAP requests over UDP: `POST /up[?d=<device>]`, the payload one frame of a meter.
//! Out: answers, each given only after the uplink is on disk; batches of envelopes over MQTT to
//! ingest, again and again until the store confirms them.
//! Never here: what a frame says, keys, Postgres, ClickHouse.
//!
//! Two halves share one spool. [`server`](run) takes datagrams on a thread of its own: everything
//! the socket has ready becomes one group, one `fdatasync`, then the answers. The publisher is a
//! task that tails the spool; the broker may die at any time, and so may we: what was answered is
//! in the spool, what is in the spool is sent until the watermark has passed it.

mod connection;
mod message;
mod peers;
mod publisher;
mod server;
mod settings;

pub use publisher::PublishError;
pub use settings::{CoapGatewaySettings, SettingsError};

use model::clock::Clock;
use publisher::Publisher;
use server::Server;
use spool::Spool;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

/// Why a gateway could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting does not hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The spool does not open.
    #[error("coap-gateway: open the spool")]
    Spool(#[source] spool::OpenError),
    /// The address is taken or not ours.
    #[error("coap-gateway: listen on udp {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The publisher cannot go on.
    #[error("coap-gateway: publish")]
    Publish(#[from] PublishError),
    /// One of the two halves died of a defect of ours.
    #[error("coap-gateway: a half of the gateway ended unexpectedly")]
    Half(#[source] JoinError),
}

/// Runs a gateway until `cancel`; calls `ready` with the bound address once meters may send.
///
/// The broker need not be there: uplinks wait in the spool.
///
/// # Errors
/// When it cannot start, or the spool no longer reads back. A broker that is away, a full spool
/// or a full disk are not errors: meters are told to wait.
pub async fn run(
    settings: CoapGatewaySettings,
    clock: Clock,
    cancel: CancellationToken,
    ready: impl FnOnce(SocketAddr) + Send,
) -> Result<(), GatewayError> {
    settings.check()?;
    let listen = settings.listen;
    let opening = settings.spool.clone();
    let spool = spawn_blocking(move || Spool::open(&opening))
        .await
        .map_err(GatewayError::Half)?
        .map_err(GatewayError::Spool)?;
    let socket =
        Server::bind(&settings).map_err(|source| GatewayError::Listen { listen, source })?;
    let bound = socket.local_addr().map_err(|source| GatewayError::Listen { listen, source })?;
    tracing::info!(
        gateway = settings.gateway,
        %bound,
        epoch = spool.epoch(),
        first = spool.first_sequence(),
        next = spool.next_sequence(),
        cut_bytes = spool.cut_bytes(),
        "coap gateway is up"
    );
    let (durable, watched) = watch::channel(spool.next_sequence());
    let conflict = Arc::new(AtomicBool::new(false));
    let (reader, trimmer) = (spool.reader(), spool.trimmer());
    let publisher = Publisher::new(&settings, reader, trimmer, watched, Arc::clone(&conflict));
    let server = Server::new(&settings, socket, spool, clock, durable, conflict);

    // Either half ending ends the other.
    let stop = cancel.child_token();
    let serving = {
        let stop = stop.clone();
        spawn_blocking(move || {
            let _stop_the_other = stop.clone().drop_guard();
            server.run(&stop);
        })
    };
    let publishing = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let _stop_the_other = stop.clone().drop_guard();
            publisher.run(stop).await
        })
    };
    ready(bound);
    let (served, published) = tokio::join!(serving, publishing);
    served.map_err(GatewayError::Half)?;
    published.map_err(GatewayError::Half)??;
    tracing::info!("coap gateway has stopped");
    Ok(())
}
