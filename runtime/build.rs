//! Tells the linker where the program begins, and how to write its relocations.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") != "linux" {
        return;
    }
    if target("ARCH") == "x86_64" {
        // dhow-sys's entry point; other processors begin in the C library.
        let entry = match target("ENV") == "gnu" && is_for_all_processors() {
            true => "dhow_entry",
            false => "dhow_plain_entry",
        };
        println!("cargo::rustc-link-arg-bins=-Wl,-e,{entry}");
    }
    if target("ENV") == "gnu" && packs_relocations() {
        // A bit instead of 24 bytes for each of some ten thousand pointers.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the C library is for every x86-64 processor: then it begins also where it is told of the plainest one (dhow-sys's
/// `entry/quick.rs`). What the compiler makes when it is told nothing is what the distribution is made of.
fn is_for_all_processors() -> bool {
    println!("cargo::rerun-if-env-changed=CC");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let asked = Command::new(compiler)
        .args(["-dM", "-E", "-x", "c", "/dev/null"])
        .output();
    asked.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("__SSE2__") && !text.contains("__SSE3__")
    })
}

/// Whether the C library that is linked reads packed relocations at a static program's start: glibc since 2.36.
fn packs_relocations() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else {
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .trim_start_matches("glibc")
        .trim()
        .split('.')
        .filter_map(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(36))
}
