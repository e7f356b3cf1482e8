//! As much of HTTP as WHIP and WHEP need: a description is posted, another comes back. A program of yours
//! has a client that knows TLS and redirects.
#![allow(dead_code, reason = "each example uses its part")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::common::Result;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Where the session is, to be deleted at its end.
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

/// Sends a request with a description in its body to `http://HOST/PATH`.
pub(crate) async fn request(method: &str, url: &str, sdp: &str) -> Result<Response> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("an http:// URL, please")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).await?;
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
        sdp.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(sdp.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no HTTP response")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let location = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.trim().to_owned())
    });
    Ok(Response {
        status: status.ok_or("no HTTP status")?,
        location,
        body: body.to_owned(),
    })
}
