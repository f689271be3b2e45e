//! What the client port serves that is not gRPC, whichever HTTP it came by (spec §3.2).

use crate::api::status::Status;
use crate::config::CLUSTER_VERSION;
use crate::config::ETCD_VERSION;
use crate::config::Url;
use std::borrow::Cow;

/// A request outside gRPC: answered, or waiting for a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Answered.
    Page(Page),
    /// `/health`: answered once a read of the keyspace has gone through.
    Health {
        /// Whether the read may be local.
        serializable: bool,
    },
}

/// The content type of most pages; etcd's `/health` has it too, JSON though it is.
const TEXT: &str = "text/plain; charset=utf-8";

/// What etcd's `--cors *` puts on every page.
pub(crate) const CORS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
    ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
    ("Access-Control-Allow-Origin", "*"),
];

/// A whole plain answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// HTTP's status.
    pub(crate) code: u16,
    /// Value of `Content-Type`.
    pub(crate) content_type: &'static str,
    /// Further header fields.
    pub(crate) fields: Vec<(&'static str, Cow<'static, str>)>,
    /// What it says.
    pub(crate) body: String,
}

impl Page {
    /// A line of plain text, as Go's `http.Error` writes one.
    pub(crate) fn text(code: u16, line: &str) -> Self {
        Self {
            code,
            content_type: TEXT,
            fields: vec![("X-Content-Type-Options", "nosniff".into())],
            body: format!("{line}\n"),
        }
    }

    /// A whole page of another type than text.
    pub(super) fn json(code: u16, content_type: &'static str, body: String) -> Self {
        Self { code, content_type, fields: Vec::new(), body }
    }
}

/// What `method` and `target` (path and query) ask for, of a node with these shards.
pub(crate) fn request(method: &[u8], target: &[u8], shards: &str) -> Plain {
    let text = String::from_utf8_lossy(target);
    // A proxy's form of a target has scheme and host before the path.
    let text = match text.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => &text,
    };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    match path {
        "/health" if method != b"GET" => Plain::Page(not_allowed()),
        "/health" => {
            let serializable = query.split('&').any(|pair| pair == "serializable=true");
            Plain::Health { serializable }
        }
        "/version" => Plain::Page(version(method)),
        "/shards" if method != b"GET" => Plain::Page(not_allowed()),
        "/shards" => Plain::Page(Page::json(200, "application/json", shards.to_owned())),
        _ => Plain::Page(Page::text(404, "404 page not found")),
    }
}

/// What another method than GET is told.
pub(super) fn not_allowed() -> Page {
    let mut page = Page::text(405, "Method Not Allowed");
    page.fields.push(("Allow", "GET".into()));
    page
}

/// `/version`, on either port.
pub(super) fn version(method: &[u8]) -> Page {
    if method != b"GET" {
        return not_allowed();
    }
    let (server, cluster) = (ETCD_VERSION, CLUSTER_VERSION);
    let body =
        format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{cluster}"}}"#);
    Page::json(200, "application/json", body)
}

/// `/shards`, which etcd has not: where clients reach each of this node's shards, by number.
pub(super) fn shards<'a>(urls: impl Iterator<Item = &'a [Url]>) -> String {
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>();
    let shards = urls
        .enumerate()
        .map(|(shard, urls)| serde_json::json!({ "shard": shard, "clientURLs": texts(urls) }));
    serde_json::json!({ "shards": shards.collect::<Vec<_>>() }).to_string()
}

/// The page that says whether the read behind `/health` went through.
pub(crate) fn health(result: Result<(), &Status>) -> Page {
    match result {
        Ok(()) => Page::json(200, TEXT, r#"{"health":"true","reason":""}"#.into()),
        Err(status) => unhealthy(format!("RANGE ERROR:{}", status.message)),
    }
}

/// The page of `/health` where no leader is known: it is not waited for.
pub(crate) fn leaderless() -> Page {
    unhealthy("RAFT NO LEADER".to_owned())
}

fn unhealthy(reason: String) -> Page {
    let reason = serde_json::Value::String(reason);
    Page::text(503, &format!(r#"{{"health":"false","reason":{reason}}}"#))
}

/// HTTP's words for a status of ours.
pub(crate) fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}
