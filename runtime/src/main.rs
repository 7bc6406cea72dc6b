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
    let is_called_so = dhow_sys::process::executed_as()
        .is_some_and(|path| path.to_bytes().ends_with(b"/dhow-runtime"));
    if !is_called_so {
        let _ = rustix::thread::set_name(c"dhow-runtime");
    }
    cli::main()
}
