//! What a pull cannot do without, and a control: whether the second core was free while it was measured.
//!
//! ```text
//! dhow-bench-floor unpack THREADS INTO BLOB...   read, sha256, inflate, sha256, create the files; gzip layers in their order, each a
//!                                                file or `http://HOST:PORT/v2/REPOSITORY/blobs/DIGEST`
//! dhow-bench-floor cores                         how long two threads take, each with the work that one thread alone did in 1.0
//! ```

mod cores;
mod fetch;
mod unpack;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["unpack", threads, into, blobs @ ..] if !blobs.is_empty() => {
            unpack::run(threads.parse()?, Path::new(into), blobs)
        }
        ["cores"] => {
            println!("{:.2}", cores::contention());
            Ok(())
        }
        _ => anyhow::bail!("usage: dhow-bench-floor unpack THREADS INTO BLOB... | cores"),
    }
}
