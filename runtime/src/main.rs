//! The OCI runtime: turns a bundle into a confined process and manages its life.

#![cfg_attr(not(test), no_main)]

mod cli;

#[cfg(not(test))]
dhow_sys::program!(begin);

#[cfg_attr(
    test,
    expect(dead_code, reason = "the tests have a beginning of their own")
)]
fn begin() -> u8 {
    // Executed through a descriptor, the process would be called by that one's number.
    let _ = rustix::thread::set_name(c"dhow-runtime");
    cli::main()
}
