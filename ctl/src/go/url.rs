//! Where a member's peers find it: what etcd's client takes for such a URL, in Go's words.

use super::quote;

/// Sees that all of these are URLs that a member may have for its peers.
///
/// # Errors
///
/// What is wrong with the first that is none.
pub(crate) fn check_urls(urls: &[String]) -> Result<(), String> {
    urls.iter().try_for_each(|url| check(url.trim()))
}

fn check(url: &str) -> Result<(), String> {
    let (scheme, rest) = split_scheme(url)?;
    match &scheme.to_ascii_lowercase()[..] {
        "http" | "https" => {}
        "unix" | "unixs" => return Ok(()),
        _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    // What follows the last colon, unless it is inside of an address in brackets.
    let port = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    if let Some((_, port)) = port.filter(|(_, port)| !port.bytes().all(|it| it.is_ascii_digit())) {
        let (url, port) = (quote(url.as_bytes()), quote(format!(":{port}").as_bytes()));
        return Err(format!("parse {url}: invalid port {port} after host"));
    }
    let is_plain = |name: &str| !name.contains(':') || name.starts_with('[');
    if port.is_none_or(|(name, _)| !is_plain(name)) {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    if path.is_empty() {
        return Ok(());
    }
    Err(format!("URL must not contain a path: {url}"))
}

/// The scheme, which may be missing, and what follows its colon.
fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| Err(format!("parse {}: {why}", quote(url.as_bytes())));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let end = url.find(|c| !is_part(c)).unwrap_or(url.len());
    let is_scheme =
        url[end..].starts_with(':') && url.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_scheme {
        return Ok((&url[..end], &url[end + 1..]));
    }
    if url.starts_with(':') {
        return wrong("missing protocol scheme");
    }
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    if first.contains(':') {
        return wrong("first path segment in URL cannot contain colon");
    }
    Ok(("", url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_members_are_told_from_others() {
        for url in ["http://a:1", " https://[::1]:2380 ", "unix://x/y", "http://u@a:1", "http://a:"]
        {
            assert_eq!(check_urls(&[url.to_owned()]), Ok(()), "{url}");
        }
        for (url, why) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("a:1", "URL scheme must be http, https, unix, or unixs: a:1"),
            ("a/b:1", "URL scheme must be http, https, unix, or unixs: a/b:1"),
            ("1.2.3.4:5", "parse \"1.2.3.4:5\": first path segment in URL cannot contain colon"),
            (":5", "parse \":5\": missing protocol scheme"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"),
            ("http:a:1", "URL address does not have the form \"host:port\": http:a:1"),
            ("http://a:x", "parse \"http://a:x\": invalid port \":x\" after host"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ] {
            let urls = ["http://a:1".to_owned(), url.to_owned()];
            assert_eq!(check_urls(&urls), Err(why.to_owned()));
        }
    }
}
