//! A client of one cluster: which server is asked, and what becomes of a call that fails.
//!
//! All servers are dialled at once, and the first that answers is asked. When its connection is
//! lost, or it says that it cannot serve, a call that changes nothing is made again elsewhere,
//! until its caller's patience ends. A call that may have changed something is made again only if
//! it was never sent.

pub(crate) mod methods;
pub(crate) mod page;
mod refused;
mod session;
mod watcher;

pub(crate) use refused::Refused;
pub(crate) use session::KeepAlive;
pub(crate) use session::Session;
pub(crate) use watcher::Watcher;

use crate::client::methods::Method;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::tell;
use http::uri::PathAndQuery;
use prost::Message;
use ringd::api::proto::etcdserverpb::AuthenticateRequest;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::ConnectError;
use tonic::Status;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::metadata::Ascii;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

/// The wait between two rounds of dialling, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The shortest silence after which a connection is probed, whatever the flag says: servers hang up
/// on clients that probe much more often.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// Bytes of an answer, and of all answers, that a server may send ahead.
const STREAM_WINDOW_SIZE: u32 = 1 << 20;
const CONNECTION_WINDOW_SIZE: u32 = 4 << 20;

/// Requests of a stream that wait to be sent.
const REQUESTS_MAX: usize = 16;

/// The version of the API that we speak.
const API_VERSION: &str = "3.7";

/// What a server says when it does not know the token any more.
const STALE_TOKENS: [&str; 2] =
    ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"];

/// A client; clones share its connection.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Shared>);

/// What clones share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    servers: Vec<(String, Endpoint)>,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
struct State {
    /// The server that is asked, by its place, and the connection to it.
    current: Option<(usize, Channel)>,
    /// The server that failed last, which is dialled only if no other is there.
    shunned: Option<usize>,
    token: Option<MetadataValue<Ascii>>,
    /// True once somebody was told that no server is there.
    is_told: bool,
}

/// The sending half of a stream in both directions, and what comes back.
pub(crate) type Duplex<Q, A> = (mpsc::Sender<Q>, Streaming<A>);

impl Client {
    /// A client of the servers that the settings name; nothing is dialled yet, except to learn a
    /// user's token.
    ///
    /// # Errors
    ///
    /// A server's name that makes no sense, or a user that the server does not know.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let servers = settings.endpoints.iter().map(|name| {
            let server = endpoint(name, settings)?;
            Ok((name.clone(), server))
        });
        let servers: Vec<_> = servers.collect::<Result<_, Failure>>()?;
        if servers.is_empty() {
            let text = "etcdclient: no available endpoints";
            return Err(Failure::new(Exit::BadConnection, text));
        }
        let mut state = State::default();
        if let Some(token) = &settings.token {
            let token = token.parse();
            state.token = Some(token.map_err(|_| {
                Failure::arguments("--auth-jwt-token: a token has only letters that print")
            })?);
        }
        let settings = settings.clone();
        let client = Self(Arc::new(Shared { settings, servers, state: Mutex::new(state) }));
        let opened = client.within(client.authenticate()).await;
        opened.map_err(|refused| Failure::new(Exit::BadConnection, refused))?;
        Ok(client)
    }

    /// A client of one of the servers.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) async fn open_one(settings: &Settings, endpoint: &str) -> Result<Self, Failure> {
        Self::open(&Settings { endpoints: vec![endpoint.to_owned()], ..settings.clone() }).await
    }

    /// What a call comes to within the time that a command may take.
    ///
    /// # Errors
    ///
    /// The call's own, or that the time is over.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let limit = self.0.settings.command_timeout;
        tokio::time::timeout(limit, call).await.unwrap_or(Err(Refused::TimeOver))
    }

    /// Makes a call, as often as it takes and is safe; its caller limits the time.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub(crate) async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Refused>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.fits(&request)?;
        let mut pause = PAUSE_MIN;
        let mut is_renewed = false;
        loop {
            let (place, channel) = self.channel().await;
            let sent = self.request(request.clone()).await;
            let mut grpc = self.grpc(channel);
            let outcome = match grpc.ready().await {
                Ok(()) => grpc.unary(sent, path(method.path), ProstCodec::<Q, A>::default()).await,
                Err(error) => Err(unsent(error)),
            };
            let status = match outcome {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if !is_renewed && self.is_token_stale(&status) {
                is_renewed = true;
                self.0.state.lock().await.token = None;
                Box::pin(self.authenticate()).await?;
            } else if was_never_sent(&status) || (method.is_safe && is_elsewhere_better(&status)) {
                self.lose(place).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            } else {
                return Err(Refused::by(status));
            }
        }
    }

    /// Opens a stream of answers to one request.
    ///
    /// # Errors
    ///
    /// What the server refuses before its first answer.
    pub(crate) async fn answers<Q, A>(
        &self,
        method: &Method<Q, A>,
        request: Q,
    ) -> Result<Streaming<A>, Refused>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.fits(&request)?;
        loop {
            let (place, channel) = self.channel().await;
            let sent = self.request(request.clone()).await;
            let mut grpc = self.grpc(channel);
            let outcome = match grpc.ready().await {
                Ok(()) => {
                    let codec = ProstCodec::<Q, A>::default();
                    grpc.server_streaming(sent, path(method.path), codec).await
                }
                Err(error) => Err(unsent(error)),
            };
            match outcome {
                Ok(answers) => return Ok(answers.into_inner()),
                Err(status) if was_never_sent(&status) => {
                    self.lose(place).await;
                    tokio::time::sleep(PAUSE_MIN).await;
                }
                Err(status) => return Err(Refused::by(status)),
            }
        }
    }

    /// Opens a stream in both directions, with a server that has a leader.
    ///
    /// # Errors
    ///
    /// What the server refuses; a caller that may ask again does, see [`Refused::is_passing`].
    pub(crate) async fn duplex<Q, A>(
        &self,
        method: &Method<Q, A>,
        first: Q,
    ) -> Result<Duplex<Q, A>, Refused>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (place, channel) = self.channel().await;
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        sender.try_send(first).expect("there is room for one");
        let mut request = self.request(ReceiverStream::new(receiver)).await;
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut grpc = self.grpc(channel);
        let outcome = match grpc.ready().await {
            Ok(()) => {
                let codec = ProstCodec::<Q, A>::default();
                grpc.streaming(request, path(method.path), codec).await
            }
            Err(error) => Err(unsent(error)),
        };
        match outcome {
            Ok(answers) => Ok((sender, answers.into_inner())),
            Err(status) => {
                let refused = Refused::by(status);
                if refused.is_passing() {
                    self.lose(place).await;
                }
                Err(refused)
            }
        }
    }

    /// Gives up the connection that failed, so that another server is tried first.
    pub(crate) async fn lose_current(&self) {
        let place = self.0.state.lock().await.current.as_ref().map(|(place, _)| *place);
        if let Some(place) = place {
            self.lose(place).await;
        }
    }

    async fn lose(&self, place: usize) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_some_and(|(current, _)| *current == place) {
            state.current = None;
            state.shunned = Some(place);
        }
    }

    /// A connection, dialled for as long as it takes.
    async fn channel(&self) -> (usize, Channel) {
        let mut state = self.0.state.lock().await;
        if let Some((place, channel)) = &state.current {
            return (*place, channel.clone());
        }
        let mut pause = PAUSE_MIN;
        loop {
            let shunned = state.shunned.take();
            let all = 0..self.0.servers.len();
            let others = all.clone().filter(|&place| Some(place) != shunned);
            let mut dialled = self.dial(others).await;
            if dialled.is_err() && shunned.is_some() {
                dialled = self.dial(all.filter(|&place| Some(place) == shunned)).await;
            }
            match dialled {
                Ok((place, channel)) => {
                    state.current = Some((place, channel.clone()));
                    return (place, channel);
                }
                Err(why) => {
                    if !state.is_told || self.0.settings.debug {
                        state.is_told = true;
                        tell(format_args!("ringctl: {why}; trying again"));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Dials servers at once and takes the first that answers.
    async fn dial(&self, places: impl Iterator<Item = usize>) -> Result<(usize, Channel), String> {
        let mut attempts = JoinSet::new();
        for place in places {
            let (name, server) = self.0.servers[place].clone();
            let limit = self.0.settings.dial_timeout;
            attempts.spawn(async move {
                let dialled = match tokio::time::timeout(limit, server.connect()).await {
                    Ok(dialled) => dialled.map_err(|error| root_cause(&error)),
                    Err(_) => Err(format!("no answer within {limit:?}")),
                };
                dialled
                    .map(|channel| (place, channel))
                    .map_err(|why| format!("cannot connect to {name}: {why}"))
            });
        }
        let mut why = Vec::new();
        while let Some(attempt) = attempts.join_next().await {
            match attempt.expect("dialling does not panic") {
                Ok(connection) => return Ok(connection),
                Err(reason) => why.push(reason),
            }
        }
        why.sort_unstable();
        Err(why.join("; "))
    }

    fn grpc(&self, channel: Channel) -> Grpc<Channel> {
        Grpc::new(channel).max_decoding_message_size(self.0.settings.answer_bytes_max)
    }

    /// A request with what goes along with every request.
    async fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let version = MetadataValue::from_static(API_VERSION);
        request.metadata_mut().insert("client-api-version", version);
        if let Some(token) = &self.0.state.lock().await.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Refuses a request that is larger than may be sent.
    fn fits(&self, request: &impl Message) -> Result<(), Refused> {
        let (size, max) = (request.encoded_len(), self.0.settings.request_bytes_max);
        if size <= max {
            return Ok(());
        }
        let text = format!("trying to send message larger than max ({size} vs. {max})");
        Err(Refused::by(Status::resource_exhausted(text)))
    }

    fn is_token_stale(&self, status: &Status) -> bool {
        self.0.settings.user.is_some() && STALE_TOKENS.contains(&status.message())
    }

    /// Learns the token of the user that the settings name, if they name one with a password.
    async fn authenticate(&self) -> Result<(), Refused> {
        let Settings { user, password, .. } = &self.0.settings;
        let (Some(name), Some(password)) = (user, password) else { return Ok(()) };
        if password.is_empty() {
            return Ok(());
        }
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let answer = match Box::pin(self.call(&methods::AUTHENTICATE, request)).await {
            Ok(answer) => answer,
            // A server without users serves everybody.
            Err(refused) if refused.is("etcdserver: authentication is not enabled") => {
                return Ok(());
            }
            Err(refused) => return Err(refused),
        };
        let token = answer.token.parse();
        let token = token.map_err(|_| Refused::by(Status::internal("a token that is no text")))?;
        self.0.state.lock().await.token = Some(token);
        Ok(())
    }
}

/// How long something took, for a person.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// One that runs from now on.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Since it was started.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// What tonic needs to dial a server.
fn endpoint(name: &str, settings: &Settings) -> Result<Endpoint, Failure> {
    let wrong = |why: &str| Failure::arguments(format!("endpoint \"{name}\": {why}"));
    let uri = match name.split_once("://") {
        Some(("https" | "unixs", _)) => {
            return Err(wrong("there is no TLS yet; connections are plain"));
        }
        Some(("unix", path)) => format!("unix:{path}"),
        Some(("http", _)) => name.to_owned(),
        Some(_) => return Err(wrong("an address is host:port, http://host:port or unix://path")),
        None if name.starts_with("unix:") => name.to_owned(),
        None => format!("http://{name}"),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| wrong("this is no address"))?;
    Ok(endpoint
        .http2_keep_alive_interval(settings.keepalive_time.max(KEEPALIVE_TIME_MIN))
        .keep_alive_timeout(settings.keepalive_timeout)
        .initial_stream_window_size(STREAM_WINDOW_SIZE)
        .initial_connection_window_size(CONNECTION_WINDOW_SIZE))
}

/// A method's path.
fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// What stands at the bottom of an error.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A call that never left, as the connection is not there.
fn unsent(error: impl Error + Send + Sync + 'static) -> Status {
    Status::from_error(Box::new(ConnectError(Box::new(error))))
}

/// True for a call that failed before anything of it was sent.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// True for what another server, or the same one later, may answer.
fn is_elsewhere_better(status: &Status) -> bool {
    status.code() == Code::Unavailable || refused::is_broken(status)
}
