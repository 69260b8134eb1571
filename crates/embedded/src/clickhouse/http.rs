//! ClickHouse's HTTP interface over the engine.
//!
//! In: connections. Out: answers, errors in ClickHouse's form.
//! Never here: C, pooling. Every wait and every size has a limit.

use super::{
    ClickhouseEngineSettings,
    answer::{Answer, Piece, Pieces},
    compression::{Blocks, lz4_frame},
    engine::Engine,
    exception::Exception,
    ffi::Work,
    request::Request,
    running::{self, Query},
    statement::{self, InsertData},
};
use crate::random;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    Method, Response,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, histogram};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

/// Data is handed to the engine in pieces of about this size.
const INSERT_PIECE_BYTES: usize = 512 << 10;
/// How much of a body is still read after an error, so that the client hears of the error rather
/// than of a broken connection.
const DRAIN_BYTES_MAX: usize = 256 << 20;
/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type HttpRequest = hyper::Request<Incoming>;

pub(super) struct Server {
    pub(super) engine: Arc<Engine>,
    pub(super) settings: ClickhouseEngineSettings,
    slots: Arc<Semaphore>,
    user: Option<(String, String)>,
}

impl Server {
    pub(super) fn new(engine: Arc<Engine>, settings: ClickhouseEngineSettings) -> Self {
        let user = settings.password.clone().map(|password| {
            (settings.user.clone().unwrap_or_else(|| "default".to_owned()), password)
        });
        let slots = Arc::new(Semaphore::new(settings.queries_max));
        Self { engine, settings, slots, user }
    }

    /// Serves until `shutdown`, then lets running statements end for the grace period.
    pub(super) async fn run(self: &Arc<Self>, listener: TcpListener, shutdown: &CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.settings.connections_max));
        let tasks = TaskTracker::new();
        let abort = CancellationToken::new();
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await.ok()?;
                Some((listener.accept().await, permit))
            };
            let (accepted, permit) = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(accepted) = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (server, shutdown, abort) =
                        (Arc::clone(self), shutdown.clone(), abort.clone());
                    tasks.spawn(async move {
                        tokio::select! {
                            () = abort.cancelled() => {}
                            () = server.connection(stream, peer, &shutdown) => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        let grace = Duration::from_secs(self.settings.shutdown_grace_s.into());
        if timeout(grace, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "statements cut short by the shutdown");
            abort.cancel();
            tasks.wait().await;
        }
        // Workers whose client was cut off still hold a connection for a moment.
        let all = u32::try_from(self.settings.queries_max).unwrap_or(u32::MAX);
        if timeout(grace, self.slots.acquire_many(all)).await.is_err() {
            warn!("statements still running at the end of the shutdown");
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        shutdown: &CancellationToken,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "nodelay");
        }
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(peer, request).await) }
        });
        let idle = Duration::from_secs(self.settings.idle_timeout_s.into());
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(idle)
                .max_buf_size(1 << 20)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended");
        }
    }

    async fn answer(&self, peer: SocketAddr, request: HttpRequest) -> Response<Answer> {
        let started = Instant::now();
        let answer = self.try_answer(peer, request).await;
        histogram!("tidemark_embedded_clickhouse_request_seconds").record(started.elapsed());
        answer.unwrap_or_else(|error| {
            counter!("tidemark_embedded_clickhouse_errors_total", "code" => error.code().to_string())
                .increment(1);
            debug!(code = error.code(), error = %error.body().trim_end(), "statement failed");
            let mut response = Response::new(Answer::whole(error.body()));
            *response.status_mut() = error.status();
            let headers = response.headers_mut();
            headers.insert("x-clickhouse-exception-code", HeaderValue::from(error.code()));
            headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
            response
        })
    }

    async fn try_answer(
        &self,
        peer: SocketAddr,
        request: HttpRequest,
    ) -> Result<Response<Answer>, Exception> {
        let (parts, body) = request.into_parts();
        let is_get = parts.method == Method::GET;
        if parts.uri.path() == "/ping" || (is_get && parts.uri.query().is_none()) {
            return Ok(Response::new(Answer::whole("Ok.\n")));
        }
        if parts.uri.path() != "/" {
            return Err(Exception::new(60, "UNKNOWN_TABLE", "there is no such page"));
        }
        if !is_get && parts.method != Method::POST {
            return Err(Exception::bad_arguments("want GET or POST"));
        }
        let mut request = Request::read(&parts, || random::hex(16));
        if let Some((user, password)) = &self.user
            && !request.is_by(user, password)
        {
            let message = "authentication failed: password is incorrect, or there is no such user";
            return Err(Exception::new(516, "AUTHENTICATION_FAILED", message));
        }

        // An INSERT whose text is in the address takes its data from the body as it comes.
        let query = std::mem::take(&mut request.query);
        if let Some(insert) = statement::insert_data(query.as_bytes()) {
            return self.insert(&request, &insert, body).await;
        }
        let sent = self.small_body(&request, body).await?;
        let mut sql = query.into_bytes();
        if let Some(boundary) = request.boundary.take() {
            request.take_multipart(&boundary, &sent)?;
            sql.extend_from_slice(request.query.as_bytes());
        } else {
            if !sql.is_empty() && !sent.is_empty() {
                sql.push(b'\n');
            }
            sql.extend_from_slice(&sent);
        }
        if sql.iter().all(u8::is_ascii_whitespace) {
            return Err(Exception::new(62, "SYNTAX_ERROR", "empty query"));
        }
        match statement::insert_data(&sql) {
            Some(insert) => self.insert_inline(&request, &insert).await,
            None => self.query(peer, request, sql).await,
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, Exception> {
        let wait = Duration::from_secs(self.settings.queue_timeout_s.into());
        let many = || {
            Exception::new(
                202,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                format_args!("{} statements run already", self.settings.queries_max),
            )
        };
        timeout(wait, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| many())?
            .map_err(|_| many())
    }

    /// The next data of a body; `None` at its clean end.
    async fn body_data(&self, body: &mut Incoming) -> Result<Option<Bytes>, Exception> {
        let idle = Duration::from_secs(self.settings.idle_timeout_s.into());
        loop {
            let frame = timeout(idle, body.frame()).await.map_err(|_| {
                Exception::new(209, "SOCKET_TIMEOUT", "nothing of the body came for too long")
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Exception::network(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body of a request that is not an INSERT with its text in the address.
    async fn small_body(&self, request: &Request, mut body: Incoming) -> Result<Bytes, Exception> {
        let limit = self.settings.query_bytes_max;
        let mut blocks = Blocks::default();
        let mut sent = BytesMut::new();
        while let Some(data) = self.body_data(&mut body).await? {
            if request.decompress {
                blocks.push(&data, &mut sent)?;
            } else {
                sent.extend_from_slice(&data);
            }
            if sent.len() > limit {
                let message = format_args!("the body is longer than {limit} bytes");
                return Err(Exception::new(307, "TOO_MANY_BYTES", message));
            }
        }
        if blocks.is_complete() { Ok(sent.freeze()) } else { Err(cut_off()) }
    }

    async fn query(
        &self,
        peer: SocketAddr,
        request: Request,
        sql: Vec<u8>,
    ) -> Result<Response<Answer>, Exception> {
        let slot = self.slot().await?;
        let query = Query {
            session: request.session(),
            sql,
            format: request.format.clone(),
            parameters: request.parameters,
            read_only: request.read_only,
            marker: format!("tidemark-{}", random::hex(12)),
        };
        let (mut rest, mut stop) = running::start_query(&self.engine, query, slot);
        let loopback_is_enough = peer.ip().is_loopback() && !self.settings.compress_on_loopback;
        let lz4 = request.accepts_lz4 && !loopback_is_enough;

        let first = rest.recv().await;
        if !matches!(first, Some(Piece::Data(_))) {
            stop.disarm();
        }
        let first = match first {
            Some(Piece::Data(data)) => data,
            Some(Piece::End(work)) => {
                let response = self.response(&request.query_id, &request.format, Answer::whole(""));
                return Ok(with_summary(response, work));
            }
            Some(Piece::Failed(error)) => return Err(error),
            None => return Err(Exception::gone("the query")),
        };
        if request.wait_end {
            let (all, work) = self.collect(first, &mut rest).await?;
            stop.disarm();
            let all = if lz4 { lz4_frame(&all) } else { all };
            let response = self.response(&request.query_id, &request.format, Answer::whole(all));
            return Ok(encoded(with_summary(response, work), lz4));
        }
        let tag = random::hex(8);
        let announced = HeaderValue::from_str(&tag);
        let pieces = Pieces { first: Some(first), rest, tag, lz4, ended: false, stop };
        let mut response =
            self.response(&request.query_id, &request.format, Answer::Pieces(Box::new(pieces)));
        if let Ok(tag) = announced {
            response.headers_mut().insert("x-clickhouse-exception-tag", tag);
        }
        Ok(encoded(response, lz4))
    }

    async fn collect(
        &self,
        first: Bytes,
        rest: &mut mpsc::Receiver<Piece>,
    ) -> Result<(Bytes, Work), Exception> {
        let limit = self.settings.buffered_answer_bytes_max;
        let mut all = BytesMut::from(first);
        loop {
            match rest.recv().await {
                Some(Piece::Data(data)) => all.extend_from_slice(&data),
                Some(Piece::End(work)) => return Ok((all.freeze(), work)),
                Some(Piece::Failed(error)) => return Err(error),
                None => return Err(Exception::gone("the query")),
            }
            if all.len() > limit {
                let message = format_args!("the buffered answer is longer than {limit} bytes");
                return Err(Exception::new(396, "TOO_MANY_ROWS_OR_BYTES", message));
            }
        }
    }

    /// An INSERT whose data comes in the body.
    async fn insert(
        &self,
        request: &Request,
        insert: &InsertData<'_>,
        mut body: Incoming,
    ) -> Result<Response<Answer>, Exception> {
        check_insert(request)?;
        let slot = self.slot().await?;
        let running = running::start_insert(&self.engine, &request.session(), insert, slot);
        let sent = self.send_body(request, insert, &mut body, &running.data).await;
        drop(running.data);
        match sent {
            // Everything came: only now may it be stored.
            Ok(Sent::All) => {
                let _ended_with_an_error = running.commit.send(());
            }
            Ok(Sent::Refused) => {
                drop(running.commit);
                self.drain(&mut body).await;
            }
            Err(error) => {
                drop(running.commit);
                let _nothing_stored = running.outcome.await;
                self.drain(&mut body).await;
                return Err(error);
            }
        }
        self.inserted(
            request,
            running.outcome.await.unwrap_or_else(|_| Err(Exception::gone("the insert"))),
        )
    }

    /// Reads on, without keeping anything.
    async fn drain(&self, body: &mut Incoming) {
        let mut left = DRAIN_BYTES_MAX;
        while let Ok(Some(data)) = self.body_data(body).await {
            left = left.saturating_sub(data.len());
            if left == 0 {
                return;
            }
        }
    }

    /// Hands the body on.
    async fn send_body(
        &self,
        request: &Request,
        insert: &InsertData<'_>,
        body: &mut Incoming,
        data: &mpsc::Sender<Bytes>,
    ) -> Result<Sent, Exception> {
        let limit = self.settings.insert_bytes_max;
        let mut blocks = Blocks::default();
        let mut taken = 0_u64;
        let mut piece = BytesMut::from(insert.inline);
        while let Some(sent) = self.body_data(body).await? {
            if request.decompress {
                blocks.push(&sent, &mut piece)?;
            } else {
                piece.extend_from_slice(&sent);
            }
            if piece.len() >= INSERT_PIECE_BYTES {
                taken = taken.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                if taken > limit {
                    let message = format_args!("the insert is longer than {limit} bytes");
                    return Err(Exception::new(307, "TOO_MANY_BYTES", message));
                }
                if data.send(piece.split().freeze()).await.is_err() {
                    return Ok(Sent::Refused);
                }
            }
        }
        if !blocks.is_complete() {
            return Err(cut_off());
        }
        if !piece.is_empty() && data.send(piece.freeze()).await.is_err() {
            return Ok(Sent::Refused);
        }
        Ok(Sent::All)
    }

    /// An INSERT whose data stands behind its text, all in the body.
    async fn insert_inline(
        &self,
        request: &Request,
        insert: &InsertData<'_>,
    ) -> Result<Response<Answer>, Exception> {
        check_insert(request)?;
        let slot = self.slot().await?;
        let running = running::start_insert(&self.engine, &request.session(), insert, slot);
        let _ended_with_an_error = running.data.send(Bytes::copy_from_slice(insert.inline)).await;
        drop(running.data);
        let _ended_with_an_error = running.commit.send(());
        self.inserted(
            request,
            running.outcome.await.unwrap_or_else(|_| Err(Exception::gone("the insert"))),
        )
    }

    fn inserted(
        &self,
        request: &Request,
        outcome: Result<Work, Exception>,
    ) -> Result<Response<Answer>, Exception> {
        let work = outcome?;
        counter!("tidemark_embedded_clickhouse_inserted_rows_total").increment(work.written_rows);
        let response = self.response(&request.query_id, &request.format, Answer::whole(""));
        Ok(with_summary(response, work))
    }

    fn response(&self, query_id: &str, format: &str, answer: Answer) -> Response<Answer> {
        let mut response = Response::new(answer);
        let headers = response.headers_mut();
        headers.insert("x-clickhouse-server-display-name", HeaderValue::from_static("embedded"));
        headers.insert("x-clickhouse-timezone", HeaderValue::from_static("UTC"));
        // Both came from the client: left out where they do not fit a header.
        if let Ok(value) = HeaderValue::from_str(query_id) {
            headers.insert("x-clickhouse-query-id", value);
        }
        if let Ok(value) = HeaderValue::from_str(format) {
            headers.insert("x-clickhouse-format", value);
        }
        response
    }
}

/// How handing on a body ended.
enum Sent {
    /// To its clean end.
    All,
    /// The engine takes no more: it has failed and says so in its outcome.
    Refused,
}

fn check_insert(request: &Request) -> Result<(), Exception> {
    if request.read_only {
        return Err(Exception::new(164, "READONLY", "GET may only read"));
    }
    if !request.parameters.is_empty() {
        return Err(Exception::bad_arguments("an INSERT with data takes no parameters"));
    }
    Ok(())
}

fn cut_off() -> Exception {
    Exception::new(33, "CANNOT_READ_ALL_DATA", "the body ends within a compressed block")
}

fn encoded(mut response: Response<Answer>, lz4: bool) -> Response<Answer> {
    if lz4 {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("lz4"));
    }
    response
}

fn with_summary(mut response: Response<Answer>, work: Work) -> Response<Answer> {
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"0","result_rows":"{}","result_bytes":"0"}}"#,
        work.read_rows, work.read_bytes, work.written_rows, work.written_bytes, work.result_rows
    );
    if let Ok(summary) = HeaderValue::from_str(&summary) {
        response.headers_mut().insert("x-clickhouse-summary", summary);
    }
    response
}

/// Says once what is served.
pub(super) fn announce(address: SocketAddr, version: &str, settings: &ClickhouseEngineSettings) {
    info!(
        %address,
        version,
        data_dir = %settings.data_dir.display(),
        memory_bytes = settings.memory_bytes_max,
        "embedded clickhouse ready"
    );
}
