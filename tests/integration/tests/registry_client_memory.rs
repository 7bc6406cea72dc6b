//! The memory of a pull and a push, of saving and loading does not grow with the image, nor with what a registry says.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use dhow_integration_tests::Sandbox;
use dhow_integration_tests::registry::{Registry, noise, tar};

const MOST: u64 = 64 << 20;

/// Runs a verb to its end: whether it succeeded, and the most memory that it had, in bytes, as far as could be seen.
fn measured(sandbox: &Sandbox, words: &[&str]) -> (bool, u64) {
    let mut command = sandbox.command(words);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("dhow");
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        // The mark only rises, so that the last look is what counts; who has ended has none.
        let status = fs_err::read_to_string(&path).unwrap_or_default();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            let kilobytes = line.trim().trim_end_matches(" kB");
            most = kilobytes.parse::<u64>().expect("a number") * 1024;
        }
        if let Some(status) = child.try_wait().expect("wait") {
            return (status.success(), most);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_image_of_300_megabytes_comes_and_goes_in_little_memory() {
    let (home, other) = (Registry::embedded(), Registry::embedded());
    let layers: Vec<Vec<u8>> = (0..3)
        .map(|at| tar(&format!("file{at}"), &noise(at + 1, 100 << 20)))
        .collect();
    home.push_image("app", "1", &layers);
    drop(layers);
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", home.address());
    let (pulled, most) = measured(&sandbox, &["pull", "-q", &name]);
    assert!(
        pulled && most > 0 && most < MOST,
        "pulled: {pulled}, {most} bytes"
    );
    let copy = format!("{}/copy:1", other.address());
    sandbox.dhow(["tag", &name, &copy]).ok();
    let (pushed, most) = measured(&sandbox, &["push", "-q", &copy]);
    assert!(
        pushed && most > 0 && most < MOST,
        "pushed: {pushed}, {most} bytes"
    );
    for format in ["oci-archive", "docker-archive"] {
        let archive = sandbox.path(format).display().to_string();
        let words = ["save", "--format", format, "-o", &archive, &name];
        let (saved, most) = measured(&sandbox, &words);
        assert!(
            saved && most > 0 && most < MOST,
            "saved: {saved}, {most} bytes"
        );
        let (loaded, most) = measured(&Sandbox::new(), &["load", "-q", "-i", &archive]);
        assert!(
            loaded && most > 0 && most < MOST,
            "loaded: {loaded}, {most} bytes"
        );
    }
}

#[test]
fn answers_without_end_take_little_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || endless(stream));
        }
    });
    for repository in ["manifest", "headers", "line"] {
        let name = format!("{address}/{repository}:1");
        let (pulled, most) = measured(&Sandbox::new(), &["pull", "-q", &name]);
        assert!(
            !pulled && most < MOST,
            "{repository}: {pulled}, {most} bytes"
        );
    }
}

/// Answers with what the path says that has no end.
fn endless(mut stream: std::net::TcpStream) {
    let mut head = [0; 4096];
    let count = stream.read(&mut head).unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..count]).into_owned();
    let (start, piece): (&[u8], Vec<u8>) = match () {
        () if head.contains("/manifest/") => (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            vec![b' '; 65536],
        ),
        () if head.contains("/headers/") => (
            b"HTTP/1.1 200 OK\r\n",
            b"X-Header: one of many\r\n".repeat(1000),
        ),
        () => (b"HTTP/1.1 200 OK\r\nX-Header: ", vec![b'x'; 65536]),
    };
    let _ = stream.write_all(start);
    while stream.write_all(&piece).is_ok() {}
}
