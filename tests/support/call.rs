//! A gRPC client that hides nothing: status, headers, body, trailers or the reset as they came.

use super::stream::Stream;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use prost::Message;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long any one call may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The flow-control windows that this client grants: larger than any answer in the tests.
const WINDOW_SIZE: u32 = 64 << 20;

/// The windows of a client that a server has to wait for: HTTP/2's own.
const NARROW_WINDOW_SIZE: u32 = 65_535;

/// Streams that were given up and are remembered, so that what is still under way to them is known.
const GIVEN_UP_MAX: usize = 10_000;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    authority: String,
    ended: Arc<OnceLock<String>>,
}

/// All that came back for one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Answer {
    /// The `:status`, 0 if no headers came.
    pub(crate) http: u16,
    /// Name and value, sorted.
    pub(crate) headers: Vec<(String, String)>,
    /// All DATA.
    pub(crate) body: Bytes,
    /// Name and value, sorted.
    pub(crate) trailers: Vec<(String, String)>,
    /// How the stream or the connection ended, if not in order.
    pub(crate) failure: Option<String>,
}

/// A gRPC error as a client in any language sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    /// The number of the code.
    pub(crate) code: i32,
    /// The text, decoded.
    pub(crate) message: String,
}

impl Client {
    /// Connects to a port of the loopback.
    ///
    /// # Errors
    ///
    /// If nobody listens or the handshake fails.
    pub(crate) async fn connect(port: u16) -> Result<Self, String> {
        Self::connect_with(port, WINDOW_SIZE).await
    }

    /// As [`Self::connect`], so that no more than 64 KiB are ever on their way.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub(crate) async fn connect_narrowly(port: u16) -> Result<Self, String> {
        Self::connect_with(port, NARROW_WINDOW_SIZE).await
    }

    /// Connects with a flow-control window of so many bytes for each stream, and of ten times as
    /// many for all.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub(crate) async fn connect_with(port: u16, window: u32) -> Result<Self, String> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window.saturating_mul(10).clamp(65_535, WINDOW_SIZE))
            // What the library does to guard itself against a server would end a long test.
            .max_concurrent_reset_streams(GIVEN_UP_MAX)
            .reset_stream_duration(PATIENCE)
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX)
            .handshake(socket)
            .await
            .map_err(|error| error.to_string())?;
        let ended = Arc::new(OnceLock::new());
        let told = ended.clone();
        tokio::spawn(async move {
            let outcome = connection.await;
            told.set(outcome.err().map_or("in order".to_owned(), |error| error.to_string()))
        });
        Ok(Self { sender, authority: format!("127.0.0.1:{port}"), ended })
    }

    /// How the connection has ended, if it has: by whom, and why.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    /// Begins a call; its answer's body is taken when and as far as the caller wants.
    ///
    /// # Errors
    ///
    /// How the stream or the connection ended.
    pub(crate) async fn begin(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<h2::RecvStream, String> {
        let attempt = async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut stream) = sender.send_request(self.head(path), false)?;
            stream.send_data(framed(0, &request.encode_to_vec()), true)?;
            Ok(response.await?.into_body())
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(outcome) => outcome.map_err(|error: h2::Error| named(&error)),
            Err(_) => Err(format!("no answer after {PATIENCE:?}")),
        }
    }

    /// Opens a call of which both sides are streams; only its head is sent.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(crate) async fn open(&self, path: &str) -> Result<Stream, String> {
        self.open_with(self.head(path)).await
    }

    /// As [`Self::open`], with another head.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) async fn open_with(&self, head: Request<()>) -> Result<Stream, String> {
        let attempt = async {
            let mut sender = self.sender.clone().ready().await?;
            sender.send_request(head, false)
        };
        let (response, sending) = attempt.await.map_err(|error: h2::Error| named(&error))?;
        Ok(Stream::new(response, sending))
    }

    /// The head of a gRPC request to `path`, as every client sends it.
    pub(crate) fn head(&self, path: &str) -> Request<()> {
        Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("the parts are well-formed")
    }

    /// Sends a request whole, with trailers if there are any, and waits for all of the answer.
    pub(crate) async fn exchange(
        &self,
        head: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Answer {
        let mut answer = Answer::default();
        let outcome =
            tokio::time::timeout(PATIENCE, self.attempt(head, body, trailers, &mut answer)).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => answer.failure = Some(named(&error)),
            Err(_) => answer.failure = Some(format!("no end after {PATIENCE:?}")),
        }
        answer
    }

    async fn attempt(
        &self,
        head: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
        answer: &mut Answer,
    ) -> Result<(), h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let ends = body.is_none() && trailers.is_none();
        let (response, mut stream) = sender.send_request(head, ends)?;
        if let Some(body) = body {
            stream.send_data(body, trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        let response = response.await?;
        answer.http = response.status().as_u16();
        answer.headers = sorted(response.headers());
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            all.put(chunk);
        }
        answer.body = all.freeze();
        if let Some(trailers) = body.trailers().await? {
            answer.trailers = sorted(&trailers);
        }
        Ok(())
    }

    /// Sends a request whole and waits for the first `size` bytes of an answer that may go on; then
    /// the call is given up.
    ///
    /// # Errors
    ///
    /// If the answer ends before, or nothing comes.
    pub(crate) async fn opening(
        &self,
        head: Request<()>,
        body: Bytes,
        size: usize,
    ) -> Result<Bytes, String> {
        let attempt = async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut stream) = sender.send_request(head, false)?;
            stream.send_data(body, true)?;
            let mut body = response.await?.into_body();
            let mut all = BytesMut::new();
            while all.len() < size
                && let Some(chunk) = body.data().await
            {
                all.put(chunk?);
            }
            Ok(all.freeze())
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(outcome) => outcome.map_err(|error: h2::Error| named(&error)),
            Err(_) => Err(format!("no {size} bytes after {PATIENCE:?}")),
        }
    }

    /// A unary call; the answer as it came.
    pub(crate) async fn call(&self, path: &str, request: &impl Message) -> Answer {
        self.exchange(self.head(path), Some(framed(0, &request.encode_to_vec())), None).await
    }

    /// A unary call.
    ///
    /// # Errors
    ///
    /// The status that the server gave, or code -1 if it gave none.
    pub(crate) async fn unary<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Status> {
        self.call(path, request).await.message()
    }
}

/// The rest of an answer's body, and its `grpc-status`.
///
/// # Errors
///
/// How the stream or the connection ended, if not in order.
pub(crate) async fn rest_of(body: &mut h2::RecvStream) -> Result<(Bytes, String), String> {
    let attempt = async {
        let mut all = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            all.put(chunk);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = trailers.get("grpc-status").map(|it| it.as_bytes()).unwrap_or_default();
        Ok((all.freeze(), String::from_utf8_lossy(status).into_owned()))
    };
    match tokio::time::timeout(PATIENCE, attempt).await {
        Ok(outcome) => outcome.map_err(|error: h2::Error| named(&error)),
        Err(_) => Err(format!("no end after {PATIENCE:?}")),
    }
}

/// The messages that a body consists of.
///
/// # Errors
///
/// What is no message.
pub(crate) fn messages<A: Message + Default>(mut body: &[u8]) -> Result<Vec<A>, String> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let (prefix, rest) = body.split_at_checked(5).ok_or("a prefix is cut")?;
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
        let length = usize::try_from(length).expect("64 bits");
        let (message, rest) = rest.split_at_checked(length).ok_or("a message is cut")?;
        out.push(A::decode(message).map_err(|error| error.to_string())?);
        body = rest;
    }
    Ok(out)
}

impl Answer {
    /// The one message of a unary call that went well, or its status.
    ///
    /// # Errors
    ///
    /// The status that the server gave; code -1 if it gave none or broke the protocol.
    pub(crate) fn message<A: Message + Default>(&self) -> Result<A, Status> {
        self.status()?;
        let mut messages = self.messages()?;
        let message = messages.pop().ok_or_else(|| self.broken("no message"))?;
        if messages.is_empty() { Ok(message) } else { Err(self.broken("many messages")) }
    }

    /// That the call went well.
    ///
    /// # Errors
    ///
    /// The status that the server gave; code -1 if it gave none.
    pub(crate) fn status(&self) -> Result<(), Status> {
        if self.failure.is_some() || self.http != 200 {
            return Err(self.broken("no gRPC answer"));
        }
        let find = |name| {
            let both = self.trailers.iter().chain(&self.headers);
            both.into_iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
        };
        let code = find("grpc-status").and_then(|code| code.parse().ok());
        match code.ok_or_else(|| self.broken("no grpc-status"))? {
            0 => Ok(()),
            code => {
                let message = unescaped(find("grpc-message").unwrap_or_default());
                Err(Status { code, message })
            }
        }
    }

    /// All messages that came, whatever the status.
    ///
    /// # Errors
    ///
    /// Code -1 if they are not whole.
    pub(crate) fn messages<A: Message + Default>(&self) -> Result<Vec<A>, Status> {
        let mut rest = self.body.as_ref();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let part = rest.split_at_checked(5).and_then(|(prefix, after)| {
                let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
                let length = usize::try_from(length).expect("32 bits fit");
                if prefix[0] == 0 { after.split_at_checked(length) } else { None }
            });
            let (message, after) = part.ok_or_else(|| self.broken("no whole plain message"))?;
            let message = A::decode(message).map_err(|error| self.broken(&error.to_string()))?;
            messages.push(message);
            rest = after;
        }
        Ok(messages)
    }

    fn broken(&self, what: &str) -> Status {
        Status { code: -1, message: format!("{what}: {self:?}") }
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(flag);
    framed.put_u32(u32::try_from(message.len()).expect("a test's message is small"));
    framed.put_slice(message);
    framed.freeze()
}

pub(super) fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut sorted: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    // grpc-go says that there is no message; others say nothing.
    sorted.retain(|(name, value)| name != "grpc-message" || !value.is_empty());
    sorted.sort();
    sorted
}

/// An error in words that do not depend on who happened to notice it.
pub(super) fn named(error: &h2::Error) -> String {
    let scope = if error.is_reset() {
        "stream reset"
    } else if error.is_go_away() {
        "connection closed"
    } else {
        "failed"
    };
    error.reason().map_or_else(|| format!("{scope}: {error}"), |why| format!("{scope}: {why:?}"))
}

/// The text of a `grpc-message`, its percent-encoding undone.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match pair {
            Some(decoded) if byte == b'%' => {
                plain.push(decoded);
                at += 3;
            }
            Some(_) | None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
