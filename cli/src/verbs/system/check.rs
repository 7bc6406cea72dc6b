//! `dhow system check`

use std::process::ExitCode;

use crate::context::Context;

/// What to do about damage.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take damaged parts out of the store, where they can be made or fetched again
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let flaws = context.store()?.check(args.repair)?;
    for flaw in &flaws {
        let outcome = if flaw.repaired { " (taken out)" } else { "" };
        let remedy = flaw.remedy.as_ref();
        let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
        println!("{}: {}{outcome}{remedy}", flaw.what, flaw.reason);
    }
    let left = flaws.iter().filter(|flaw| !flaw.repaired).count();
    println!("{} damaged, {left} left", flaws.len());
    Ok(if left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
