//! A page that a server has beside the API.

use crate::settings::Settings;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes of the largest page that is read: addresses by the thousand.
const PAGE_SIZE_MAX: u64 = 1 << 20;

/// The page at this path of a server's URL, within the time that a command may take.
///
/// # Errors
///
/// Why there is none, in a line.
pub(crate) async fn get(url: &str, path: &str, settings: &Settings) -> Result<String, String> {
    let fetched = tokio::time::timeout(settings.command_timeout, fetch(url, path));
    fetched.await.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
}

async fn fetch(url: &str, path: &str) -> Result<String, String> {
    let address = match url.split_once("://") {
        Some(("http", address)) => address,
        Some((scheme, _)) => return Err(format!("{scheme} is not there yet, only http")),
        None => url,
    };
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(PAGE_SIZE_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = exchange.await.map_err(|error: std::io::Error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("it does not answer as HTTP does")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("404") => Err(format!("it has no {path}: it is no ringd, or an older one")),
        code => Err(format!("it answers with status {}", code.unwrap_or("none"))),
    }
}
