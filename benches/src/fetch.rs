//! A blob from a registry that needs no login, in the plainest way: a connection and a request.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;

/// What lies at `address`, which is `HOST:PORT/PATH`.
pub(crate) fn get(address: &str) -> anyhow::Result<impl Read + use<>> {
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = BufReader::with_capacity(256 << 10, stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    anyhow::ensure!(line.contains(" 200 "), "it answers {line:?}");
    let mut length = None;
    while line != "\r\n" {
        line.clear();
        anyhow::ensure!(answer.read_line(&mut line)? > 0, "the answer breaks off");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
    }
    let length = length.ok_or_else(|| anyhow::anyhow!("the answer does not say how long it is"))?;
    Ok(answer.take(length))
}
