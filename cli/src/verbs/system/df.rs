//! `dhow system df`

use std::process::ExitCode;

use dhow_image_store::Share;

use crate::context::Context;
use crate::progress::count;
use crate::table::{self, human_size};

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let usage = context.store()?.usage()?;
    let row = |name: &str, share: Share| {
        let percent = (share.reclaimable * 100)
            .checked_div(share.bytes)
            .map_or_else(String::new, |percent| format!(" ({percent}%)"));
        vec![
            name.to_owned(),
            share.total.to_string(),
            share.active.to_string(),
            human_size(share.bytes),
            format!("{}{percent}", human_size(share.reclaimable)),
        ]
    };
    table::print(
        &["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"],
        vec![
            row("Images", usage.images),
            row("Containers", usage.containers),
            row("Build Cache", usage.cache),
        ],
    );
    if usage.dropped_blobs > 0 {
        println!(
            "{} of layers not kept here, because registries have them ({})",
            count(usage.dropped_blobs, "compressed blob"),
            human_size(usage.dropped_bytes)
        );
    }
    Ok(ExitCode::SUCCESS)
}
