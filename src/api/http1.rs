//! HTTP/1.1, as far as it goes now: `/health`, `/version` and `/shards` on the client port, and
//! what the peer port serves ([`crate::api::PeerPages`]).
//!
//! A request at a time; pipelined ones wait. Bodies are read and dropped.

use crate::api::plain;
use crate::api::plain::Page;
use crate::api::plain::Plain;
use std::rc::Rc;

/// Largest request head, in bytes; Go's server has 1 MiB, and nothing we serve needs a sixteenth.
const HEAD_SIZE_MAX: usize = 64 << 10;
/// Largest body that is read to be dropped, in bytes; beyond it the connection closes.
const BODY_SIZE_MAX: u64 = 4 << 20;
/// Most header fields of one request.
const FIELDS_MAX: usize = 100;

/// What a method and a target ask for.
pub(super) type Route<'a> = &'a dyn Fn(&[u8], &[u8]) -> Plain;

/// One HTTP/1.1 connection.
#[derive(Debug, Default)]
pub(crate) struct Http1 {
    /// It is a peer's: the fields that are for browsers are left out.
    is_peers: bool,
    /// What `/shards` says.
    shards: Rc<str>,
    input: Vec<u8>,
    /// Bytes at the front of `input` that have had their use.
    used: usize,
    /// Bytes that were moved to the front of `input` so far.
    #[cfg(test)]
    moved: usize,
    output: Vec<u8>,
    /// Body bytes still to be dropped before the next head.
    body_left: u64,
    /// A request waits for the shard's answer.
    waiting: bool,
    /// Whether the connection closes after the answer that is being made.
    last: bool,
    /// Whether that answer goes without its body, the request having been HEAD.
    bodiless: bool,
    closed: bool,
    /// Requests that have come in whole.
    whole: u64,
    /// The client sends no more.
    over: bool,
}

/// A request's head as far as it matters here.
struct Request {
    head_len: usize,
    plain: Plain,
    body: u64,
    last: bool,
    bodiless: bool,
}

/// Bytes that are no request.
enum NotRequest {
    /// They are no HTTP/1 at all: there is nobody to answer.
    Foreign,
    /// Answered with this page.
    Refused(Page),
}

impl Http1 {
    /// A connection to the client port of a node whose `/shards` says this.
    pub(super) fn of_clients(shards: &Rc<str>) -> Self {
        Self { shards: shards.clone(), ..Self::default() }
    }

    /// A connection to the peer port.
    pub(super) fn of_peers() -> Self {
        Self { is_peers: true, ..Self::default() }
    }

    /// Takes in bytes; the request that now needs the shard, if one does.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Option<Plain> {
        let shards = self.shards.clone();
        self.receive_for(bytes, &|method, target| plain::request(method, target, &shards))
    }

    /// As [`Self::receive`], of pages that are not the client port's.
    pub(super) fn receive_for(&mut self, bytes: &[u8], route: Route<'_>) -> Option<Plain> {
        if self.waiting && self.rest().len() > HEAD_SIZE_MAX {
            // A client that goes on sending without reading its answer.
            self.last = true;
            return None;
        }
        if !self.closed && !self.last {
            self.input.extend_from_slice(bytes);
        }
        self.next(route)
    }

    /// The next request that needs the shard, those that need none being answered on the way.
    fn next(&mut self, route: Route<'_>) -> Option<Plain> {
        while !self.waiting && !self.closed {
            let dropped = usize::try_from(self.body_left).unwrap_or(usize::MAX);
            let dropped = dropped.min(self.rest().len());
            self.use_up(dropped);
            self.body_left -= u64::try_from(dropped).expect("usize is 64 bits");
            if self.body_left > 0 || self.rest().is_empty() {
                return None;
            }
            match parse(self.rest(), route) {
                Ok(None) if self.rest().len() > HEAD_SIZE_MAX => {
                    self.fail(&refusal(431, "Request Header Fields Too Large"));
                }
                Ok(None) => return None,
                Ok(Some(request)) => {
                    self.whole += 1;
                    self.use_up(request.head_len);
                    self.body_left = request.body;
                    self.last |= request.last;
                    self.bodiless = request.bodiless;
                    match request.plain {
                        Plain::Page(page) => self.answer(&page),
                        Plain::Health { .. } => {
                            self.waiting = true;
                            return Some(request.plain);
                        }
                    }
                }
                Err(NotRequest::Refused(page)) => self.fail(&page),
                Err(NotRequest::Foreign) => self.close(),
            }
        }
        None
    }

    /// What has come in and had no use yet.
    fn rest(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// The next `n` bytes of the input have had their use. They are cut off when they are most of
    /// it: to move what follows for each of many requests would cost the square of their number.
    fn use_up(&mut self, n: usize) {
        self.used += n;
        if self.used > self.input.len() / 2 {
            #[cfg(test)]
            {
                self.moved += self.rest().len();
            }
            self.input.drain(..self.used);
            self.used = 0;
        }
    }

    /// Nothing more is taken or answered.
    fn close(&mut self) {
        self.closed = true;
        self.input.clear();
        self.used = 0;
    }

    /// The number of the request of which some has come and some has not; from 1.
    pub(crate) fn incoming(&self) -> Option<u64> {
        let is_begun = !self.rest().is_empty() || self.body_left > 0;
        (is_begun && !self.waiting && !self.closed).then_some(self.whole + 1)
    }

    /// The shard's answer has become a page; the next request that needs the shard, if one waits.
    pub(crate) fn reply(&mut self, page: &Page) -> Option<Plain> {
        if !self.waiting {
            return None;
        }
        self.waiting = false;
        self.answer(page);
        let shards = self.shards.clone();
        let next = self.next(&|method, target| plain::request(method, target, &shards));
        self.closed |= self.over && !self.waiting;
        next
    }

    /// The client sends no more; what came in whole is still answered.
    pub(crate) fn input_ended(&mut self) {
        self.over = true;
        self.closed |= !self.waiting;
    }

    /// Answers what was no request, outside etcd's handlers and so without their fields, and ends.
    fn fail(&mut self, page: &Page) {
        self.last = true;
        self.close();
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nConnection: close\r\n\r\n",
            page.code,
            plain::reason(page.code),
            page.content_type,
        );
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(page.body.trim_end().as_bytes());
    }

    fn answer(&mut self, page: &Page) {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            page.code,
            plain::reason(page.code),
            page.content_type,
            page.body.len()
        );
        self.output.extend_from_slice(head.as_bytes());
        let cors = plain::CORS.iter().copied().filter(|_| !self.is_peers);
        let own = page.fields.iter().map(|(name, value)| (*name, value.as_ref()));
        for (name, value) in cors.chain(own) {
            self.output.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.last {
            self.output.extend_from_slice(b"Connection: close\r\n");
            self.close();
        }
        self.output.extend_from_slice(b"\r\n");
        if !self.bodiless {
            self.output.extend_from_slice(page.body.as_bytes());
        }
    }

    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    pub(crate) fn sent(&mut self, n: usize) {
        self.output.drain(..n);
    }

    /// Nothing more comes: the socket may close once the output is empty.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// No further request is read.
    pub(crate) fn shutdown(&mut self) {
        self.last = true;
        self.closed = !self.waiting;
    }
}

/// A page in the words of Go's server for a request that never reached a handler.
fn refusal(code: u16, text: &str) -> Page {
    Page::text(code, &format!("{code} {text}"))
}

fn parse(input: &[u8], route: Route<'_>) -> Result<Option<Request>, NotRequest> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let head_len = match head.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version | httparse::Error::Token) => return Err(NotRequest::Foreign),
        Err(_) => return Err(NotRequest::Refused(refusal(400, "Bad Request"))),
    };
    let bad = |text| NotRequest::Refused(refusal(400, text));
    let field = |name: &str| {
        head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    };
    if head.version == Some(1) && field("host").is_none() {
        return Err(bad("Bad Request: missing required Host header"));
    }
    let body = match field("content-length").map(str::from_utf8) {
        None => 0,
        Some(Ok(text)) => text.trim().parse::<u64>().map_err(|_| bad("Bad Request"))?,
        Some(Err(_)) => return Err(bad("Bad Request")),
    };
    // A list; some clients name further fields beside it (`TE, close`).
    let connection = field("connection").unwrap_or_default();
    let says = |word: &[u8]| {
        let mut words = connection.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        words.any(|it| it.eq_ignore_ascii_case(word))
    };
    let last = body > BODY_SIZE_MAX
        || field("transfer-encoding").is_some()
        || says(b"close")
        || (head.version == Some(0) && !says(b"keep-alive"));
    let method = head.method.unwrap_or_default();
    let plain = route(method.as_bytes(), head.path.unwrap_or_default().as_bytes());
    Ok(Some(Request { head_len, plain, body, last, bodiless: method == "HEAD" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Url;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn talk(http: &mut Http1, bytes: &[u8]) -> (Option<Plain>, String) {
        let plain = http.receive(bytes);
        let out = String::from_utf8(http.output().to_vec()).expect("what we say is text");
        http.sent(out.len());
        (plain, out)
    }

    #[test]
    fn version_is_answered_at_once_and_the_connection_stays() {
        let mut http = Http1::default();
        let (plain, out) = talk(&mut http, b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(plain.is_none());
        assert!(out.starts_with("HTTP/1.1 200 OK\r\n"), "{out}");
        assert!(!http.is_closed());
    }

    #[test]
    fn the_shards_are_told_as_settings_have_them() {
        let urls = [vec!["http://a:1"], vec!["http://a:2", "http://b:2"]]
            .map(|urls| urls.iter().map(|url| Url::parse(url).expect("a URL")).collect::<Vec<_>>());
        let shards: Rc<str> = plain::shards(urls.iter().map(|urls| &urls[..])).into();
        let mut http = Http1::of_clients(&shards);
        let (_, out) = talk(&mut http, b"GET /shards HTTP/1.1\r\nHost: a\r\n\r\n");
        let due = concat!(
            r#"{"shards":[{"clientURLs":["http://a:1"],"shard":0},"#,
            r#"{"clientURLs":["http://a:2","http://b:2"],"shard":1}]}"#
        );
        assert!(out.starts_with("HTTP/1.1 200 OK") && out.ends_with(due), "{out}");
        let (_, out) = talk(&mut http, b"POST /shards HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(out.starts_with("HTTP/1.1 405"), "{out}");
    }

    #[test]
    fn a_client_that_asks_to_close_among_other_things_is_heard() {
        for (line, is_last) in [("TE, Close", true), ("close", true), ("keep-alive, TE", false)] {
            let mut http = Http1::default();
            let text = format!("GET /version HTTP/1.1\r\nHost: a\r\nConnection: {line}\r\n\r\n");
            talk(&mut http, text.as_bytes());
            assert_eq!(http.is_closed(), is_last, "{line}");
        }
    }

    #[test]
    fn health_waits_for_the_shard_and_pipelined_requests_wait_for_it() {
        let mut http = Http1::default();
        let two = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\n";
        let (plain, out) = talk(&mut http, two);
        assert_eq!(plain, Some(Plain::Health { serializable: false }));
        assert!(out.is_empty());
        assert_eq!(http.reply(&Page::text(200, "yes")), None);
        let out = String::from_utf8(http.output().to_vec()).expect("text");
        assert!(out.contains("yes") && out.contains("404 page not found"), "{out}");
    }

    /// For each request all that came after it was moved: a receive of short ones cost a gigabyte.
    #[test]
    fn pipelined_requests_are_not_moved_for_each_that_is_answered() {
        let pages = b"GET /a HTTP/1.1\r\nHost:\r\n\r\n".repeat(2000);
        let mut http = Http1::default();
        let (plain, out) = talk(&mut http, &pages);
        assert!(plain.is_none());
        assert_eq!(out.matches("HTTP/1.1 404 Not Found").count(), 2000);
        assert!(http.moved <= pages.len() && http.input.is_empty(), "{}", http.moved);
        let reads = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
        let mut http = Http1::default();
        assert!(http.receive(&reads).is_some());
        let page = Page::text(200, "yes");
        assert_eq!((0..).take_while(|_| http.reply(&page).is_some()).count(), 999);
        assert!(http.moved <= reads.len() && http.input.is_empty(), "{}", http.moved);
    }

    /// `echo "GET /health HTTP/1.0" | nc -N` ends its side at once, and was answered nothing.
    #[test]
    fn whole_requests_are_answered_after_the_client_has_ended_its_side() {
        let mut http = Http1::default();
        let one = b"GET /health HTTP/1.0\r\n\r\n";
        let (plain, _) = talk(&mut http, one);
        assert!(plain.is_some());
        http.input_ended();
        assert!(!http.is_closed(), "an answer is due");
        assert_eq!(http.reply(&Page::text(200, "yes")), None);
        assert!(http.output().ends_with(b"yes\n") && http.is_closed());
        let mut http = Http1::default();
        let (_, out) = talk(&mut http, b"GET /version HTTP/1.1\r\nHost: a\r\n\r\nGET /ver");
        assert!(out.contains("200 OK"), "{out}");
        http.input_ended();
        assert!(http.is_closed(), "half a request is none");
    }

    #[test]
    fn nonsense_is_the_end_and_a_request_without_a_host_is_told_so() {
        let mut http = Http1::default();
        let (_, out) = talk(&mut http, b"\x16\x03\x01 not http\r\n\r\n");
        assert!(out.is_empty() && http.is_closed(), "{out}");
        let mut http = Http1::default();
        let (_, out) = talk(&mut http, b"GET /health HTTP/1.1\r\n\r\n");
        assert!(out.starts_with("HTTP/1.1 400") && out.contains("Host header"), "{out}");
        assert!(http.is_closed());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow(
            pieces in vec(vec(any::<u8>(), 0..64), 0..40)
        ) {
            let mut http = Http1::default();
            for piece in pieces {
                if http.receive(&piece).is_some() {
                    http.reply(&Page::text(200, "ok"));
                }
                prop_assert!(http.rest().len() <= HEAD_SIZE_MAX + 64);
            }
        }
    }
}
