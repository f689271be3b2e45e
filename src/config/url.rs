//! The URLs a node listens on and tells others, by etcd's rules.

use crate::config::value::ValueError;
use core::net::IpAddr;
use std::fmt;

/// One URL of a node: a scheme, a host and a port, and nothing after them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

/// How a URL's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP in clear.
    Http,
    /// TCP under TLS.
    Https,
    /// A socket in the file system.
    Unix,
    /// The same under TLS.
    Unixs,
}

impl Url {
    /// The URL in `text`.
    ///
    /// # Errors
    /// [`ValueError::Rule`] in etcd's words, if it is none of a node's.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let rule = |why: &str| ValueError::Rule(format!("{why}: {text}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(rule("URL scheme must be http, https, unix, or unixs")),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            return Ok(Self { text: text.to_owned(), scheme, host: rest.to_owned(), port: 0 });
        }
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let Some((host, port)) = split_host_port(authority) else {
            return Err(rule("URL address does not have the form \"host:port\""));
        };
        if !path.is_empty() {
            return Err(rule("URL must not contain a path"));
        }
        let port = port.parse().map_err(|_| rule("invalid port in URL"))?;
        Ok(Self { text: text.to_owned(), scheme, host: host.to_owned(), port })
    }

    /// The same URL with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        let at = self.text.rfind(':').expect("a parsed URL has a port");
        Self { text: format!("{}:{port}", &self.text[..at]), port, ..self.clone() }
    }

    /// The URL as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How its connections speak.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its host, without the brackets of an IPv6 address; for a socket file, its path.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port; 0 asks the system for any.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address to bind: `localhost` is 127.0.0.1, a name is none.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        if self.host == "localhost" {
            return Some(IpAddr::from([127, 0, 0, 1]));
        }
        self.host.parse().ok()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Host and port of `host:port` or `[v6]:port`.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => authority.split_once(':')?,
    };
    (!port.contains(':') && !host.contains('@')).then_some((host, port))
}

/// A comma-separated list of URLs, sorted, each once, as etcd keeps them.
///
/// # Errors
/// [`ValueError::Rule`] for the first that is none.
pub(super) fn urls(text: &str) -> Result<Vec<Url>, ValueError> {
    let mut urls = text.split(',').filter(|_| !text.is_empty()).map(|url| Url::parse(url.trim()));
    let mut sorted = urls.by_ref().collect::<Result<Vec<_>, _>>()?;
    sorted.sort();
    sorted.dedup();
    Ok(sorted)
}

/// Pairs of `name=url` in order; a name may come several times.
///
/// # Errors
/// [`ValueError::Rule`] for the first URL that is none.
pub(super) fn named_urls(text: &str) -> Result<Vec<(String, Url)>, ValueError> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.trim().to_owned(), Url::parse(url.trim())?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        let url = Url::parse("http://localhost:2379").expect("a plain one");
        assert_eq!((url.scheme(), url.host(), url.port()), (Scheme::Http, "localhost", 2379));
        assert_eq!(url.address(), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(url.with_port(2389).text(), "http://localhost:2389");
        let url = Url::parse("https://[::1]:1").expect("an IPv6 one");
        assert_eq!((url.host(), url.port(), url.scheme()), ("::1", 1, Scheme::Https));
        assert!(url.address().is_some());
        assert_eq!(Url::parse("http://a.b:1").expect("a name").address(), None);
    }

    #[test]
    fn what_is_no_url_is_refused_in_etcds_words() {
        let cases = [
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "http://localhost",
                "URL address does not have the form \"host:port\": http://localhost",
            ),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("http://a:99999", "invalid port in URL: http://a:99999"),
            ("http://::1:5", "URL address does not have the form \"host:port\": http://::1:5"),
        ];
        for (text, message) in cases {
            let error = Url::parse(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_list_is_sorted_and_has_each_once() {
        let found = urls("http://b:1,http://a:2,http://b:1").expect("whole");
        let texts: Vec<_> = found.iter().map(Url::text).collect();
        assert_eq!(texts, ["http://a:2", "http://b:1"]);
        assert_eq!(urls(""), Ok(vec![]));
    }
}
