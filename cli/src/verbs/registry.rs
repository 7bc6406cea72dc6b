//! `dhow registry`

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use dhow_registry_server::{Server, ServerOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Answer requests until SIGTERM or SIGINT; images are kept in the directory `registry` under --root
    Serve(ServeArgs),
}

#[derive(clap::Args)]
struct ServeArgs {
    /// The address to listen at; with port 0 the system chooses a free one. There are no passwords and no encryption, so whoever
    /// reaches it can read and write
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Serve(args) => serve(&args, context),
    }
}

fn serve(args: &ServeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let server = Server::open(&ServerOptions {
        root: context.root().join("registry"),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(&args.addr)
            .await
            .with_context(|| {
                format!(
                    "listening at {}; if another program has the port, choose one with --addr",
                    args.addr
                )
            })?;
        let address: SocketAddr = listener.local_addr()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        println!("listening at {address}");
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.serve(listener, stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}
