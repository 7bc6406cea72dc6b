//! Many containers at once, each started by a process of its own.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::sync::atomic::{AtomicU32, Ordering};

use dhow_integration_tests::Sandbox;

#[test]
fn sixteen_at_a_time_are_all_right() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 160 {
                        return;
                    }
                    let code = (number % 100).to_string();
                    let script = format!("echo {number}; echo {number} >/made; exit {code}");
                    let ran = sandbox.dhow(["run", "--rm", "busybox", "sh", "-c", &script]);
                    assert_eq!(ran.status.to_string(), code, "{ran:?}");
                    assert_eq!(ran.stdout.trim_end(), number.to_string());
                }
            });
        }
    });
    sandbox.nothing_is_left(&[]);
}
