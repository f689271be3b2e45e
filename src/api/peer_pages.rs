//! HTTP/1.1 on the peer port: who the members are, and of what version.
//!
//! A node that is about to join asks for it, and one that starts on an empty directory. Of etcd's
//! other pages here each serves its own protocol between members, which is not ours.

use crate::api::http1::Http1;
use crate::api::plain;
use crate::api::plain::Page;
use crate::api::plain::Plain;
use crate::config::Listed;
use crate::config::RINGD_VERSION;
use crate::config::Roll;
use crate::types::ClusterId;
use crate::types::NodeId;

/// Bytes of answers that wait to be sent before the connection ends: who means well reads an answer
/// before it asks again.
const OUTPUT_SIZE_MAX: usize = 1 << 20;
/// Bytes taken in between two looks at what waits: some hundred requests at most.
const PIECE_SIZE: usize = 4 << 10;

/// What the pages tell.
#[derive(Clone, Debug)]
pub struct About {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shards that this node hosts.
    pub shards: u32,
    /// The members of the first one, by id; none while that is not there yet.
    pub members: Option<Vec<Listed>>,
    /// Those that this node has heard, or whose word is in its log.
    pub heard: Vec<NodeId>,
    /// Who voted when the cluster's log began.
    pub founders: Vec<NodeId>,
}

/// One HTTP/1.1 connection to the peer port.
#[derive(Debug)]
pub struct PeerPages(Http1);

impl Default for PeerPages {
    fn default() -> Self {
        Self(Http1::of_peers())
    }
}

impl PeerPages {
    /// Takes in bytes, and answers what has come in whole.
    pub fn receive(&mut self, bytes: &[u8], about: &About) {
        let route = |method: &[u8], target: &[u8]| Plain::Page(page(method, target, about));
        for piece in bytes.chunks(PIECE_SIZE) {
            let asked = self.0.receive_for(piece, &route);
            assert!(asked.is_none(), "every page is answered at once");
            if self.output().len() > OUTPUT_SIZE_MAX {
                return self.0.shutdown();
            }
        }
    }

    /// The other side sends no more.
    pub fn input_ended(&mut self) {
        self.0.input_ended();
    }

    /// Bytes to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.0.output()
    }

    /// So many of them have left.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn sent(&mut self, n: usize) {
        self.0.sent(n);
    }

    /// Nothing more comes: the socket may close once the output is empty.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// The page that is asked for.
fn page(method: &[u8], target: &[u8], about: &About) -> Page {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (path, &about.members) {
        (b"/version", _) => plain::version(method),
        (b"/members", _) if method != b"GET" => plain::not_allowed(),
        (b"/members", None) => Page::text(503, "the members are not known yet"),
        (b"/members", Some(members)) => {
            let mut page = Page::json(200, "application/json", Roll::body(members));
            let cluster = format!("{:x}", about.cluster.0);
            page.fields.push((Roll::CLUSTER, cluster.into()));
            page.fields.push((Roll::VERSION, RINGD_VERSION.into()));
            page.fields.push((Roll::SHARDS, about.shards.to_string().into()));
            let list = |ids: &[NodeId]| {
                ids.iter().map(|id| format!("{:x}", id.0)).collect::<Vec<_>>().join(",")
            };
            page.fields.push((Roll::HEARD, list(&about.heard).into()));
            page.fields.push((Roll::FOUNDERS, list(&about.founders).into()));
            page
        }
        _ => Page::text(404, "404 page not found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn about() -> About {
        let listed = Listed {
            id: NodeId(7),
            name: "a".to_owned(),
            peer_urls: vec!["http://a:1".to_owned()],
            client_urls: vec!["http://a:2".to_owned()],
            learner: false,
        };
        About {
            cluster: ClusterId(0xc1),
            shards: 2,
            members: Some(vec![listed]),
            heard: vec![NodeId(7)],
            founders: vec![NodeId(8), NodeId(9)],
        }
    }

    fn ask(pages: &mut PeerPages, line: &str, about: &About) -> String {
        pages.receive(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), about);
        let out = String::from_utf8(pages.output().to_vec()).expect("what we say is text");
        pages.sent(out.len());
        out
    }

    #[test]
    fn the_members_are_told_as_etcd_tells_them_and_read_back() {
        let (mut pages, about) = (PeerPages::default(), about());
        let answer = ask(&mut pages, "GET /members?linearizable=false", &about);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let due = concat!(
            r#"[{"id":7,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]}]"#,
            "\n"
        );
        assert_eq!(body, due);
        assert!(!head.contains("Access-Control"), "{head}");
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned)
        };
        let roll = Roll::parse(field, body.as_bytes()).expect("it is whole");
        assert_eq!(Some(roll.members), about.members);
        assert_eq!((roll.cluster, roll.shards), (about.cluster, Some(2)));
        assert_eq!((roll.heard, roll.founders), (about.heard, about.founders));
        assert!(!pages.is_closed());
    }

    #[test]
    fn other_pages_are_not_there() {
        let (mut pages, about) = (PeerPages::default(), about());
        for (line, due) in [
            ("GET /version", "200 OK"),
            ("POST /members", "405 Method Not Allowed"),
            ("GET /health", "404 Not Found"),
            ("GET /raft/stream/message/1", "404 Not Found"),
        ] {
            let answer = ask(&mut pages, line, &about);
            assert!(answer.starts_with(&format!("HTTP/1.1 {due}")), "{line}: {answer}");
        }
        let early = About { members: None, ..about };
        assert!(ask(&mut pages, "GET /members", &early).starts_with("HTTP/1.1 503"));
    }

    /// All of them were answered, and the answers kept.
    #[test]
    fn who_asks_and_does_not_read_is_answered_so_much_and_no_more() {
        let about = about();
        let one = b"GET /members HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = ask(&mut PeerPages::default(), "GET /members", &about).len();
        let piece = answer * (PIECE_SIZE / one.len() + 1);
        let count = 2 * OUTPUT_SIZE_MAX / answer;
        for at_once in [1, count] {
            let mut pages = PeerPages::default();
            for _ in 0..count / at_once {
                pages.receive(&one.repeat(at_once), &about);
            }
            let size = pages.output().len();
            assert!(pages.is_closed() && size > OUTPUT_SIZE_MAX, "{at_once} at once: {size}");
            assert!(size <= OUTPUT_SIZE_MAX + piece, "{at_once} at once: {size}");
        }
        let mut pages = PeerPages::default();
        for _ in 0..count {
            assert!(ask(&mut pages, "GET /members", &about).starts_with("HTTP/1.1 200"));
        }
        assert!(!pages.is_closed(), "who reads them may ask as often as it likes");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(pieces in vec(vec(any::<u8>(), 0..64), 0..20)) {
            let (mut pages, about) = (PeerPages::default(), about());
            for piece in pieces {
                pages.receive(&piece, &about);
            }
        }
    }
}
