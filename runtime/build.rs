//! Tells the linker where the program begins: at dhow-sys's entry point, where there is one for the processor.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ARCH") == "x86_64" && target("OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,dhow_entry");
    }
}
