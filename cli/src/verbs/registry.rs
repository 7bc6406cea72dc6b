//! `dhow registry`

mod images;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dhow_image::{Descriptor, Digest, ImageReference, TransferErrorKind};
use dhow_registry_client::{Account, Client};
use dhow_registry_server::{Server, ServerOptions, TlsFiles, Upstream, UpstreamError};
use tokio::signal::unix::{SignalKind, signal};

use self::images::StoreImages;
use crate::context::Context;
use crate::registry_args::RegistryArgs;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Answer requests until SIGTERM or SIGINT; images are kept in the directory `registry` under --root, or are the store's own (--images)
    Serve(Box<ServeArgs>),
}

#[derive(clap::Args)]
struct ServeArgs {
    /// The address to listen at; with port 0 the system chooses a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// The file of names and passwords, as `htpasswd -B` writes it [default: everybody who reaches the address comes in]
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// The certificate by which the registry proves who it is [default: nothing is encrypted]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve the images of the store instead, as they lie there and without a copy; nobody can push
    #[arg(long, conflicts_with_all = ["proxy", "keep_unused"])]
    images: bool,
    /// Let nobody write
    #[arg(long)]
    read_only: bool,
    /// Fetch what is not here from this registry, and keep it; nobody else can write
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// How many seconds to keep blobs that no manifest names, and uploads that nobody goes on with
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..))]
    keep_unused: u64,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Serve(args) => serve(&args, context),
    }
}

impl Args {
    /// Whether the store's images are served.
    pub(crate) fn serves_images(&self) -> bool {
        match &self.action {
            Action::Serve(args) => args.images,
        }
    }
}

impl ServeArgs {
    fn options(&self, context: &Context) -> anyhow::Result<ServerOptions> {
        let upstream = match &self.proxy {
            Some(url) => Some(Arc::new(upstream(url, &self.registry)?) as Arc<dyn Upstream>),
            None => None,
        };
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        Ok(ServerOptions {
            root: context.root().join("registry"),
            passwords: self.htpasswd.clone(),
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            read_only: self.read_only,
            upstream,
            images: match self.images {
                true => Some(Arc::new(self.view(context)?)),
                false => None,
            },
            // What the store has of the same blobs needs no room twice.
            shared: Some(context.root().join("blobs")),
            unused_kept: Duration::from_secs(self.keep_unused),
        })
    }
}

impl ServeArgs {
    /// The store's images, and who fetches what the store has dropped of them.
    fn view(&self, context: &Context) -> anyhow::Result<StoreImages> {
        let mut options = self.registry.options()?;
        options.is_view = true;
        Ok(StoreImages::new(context.store()?, Client::new(options)))
    }
}

/// Another registry, asked by the client that the other verbs use.
struct Remote {
    client: Client,
    registry: String,
}

/// The registry at an address such as `https://registry-1.docker.io`. Plain HTTP is spoken where the address says so.
fn upstream(url: &str, registry: &RegistryArgs) -> anyhow::Result<Remote> {
    let account: Account = url.parse()?;
    let mut options = registry.options()?;
    if url.starts_with("http://") {
        options.trust.insecure.push(account.registry().to_owned());
    }
    Ok(Remote {
        client: Client::new(options),
        registry: account.registry().to_owned(),
    })
}

impl Remote {
    fn reference(&self, repository: &str, name: &str) -> Result<ImageReference, UpstreamError> {
        let separator = if name.contains(':') { '@' } else { ':' };
        Ok(format!("{}/{repository}{separator}{name}", self.registry).parse()?)
    }
}

impl Upstream for Remote {
    fn manifest(
        &self,
        repository: &str,
        name: &str,
    ) -> Result<Option<(String, Vec<u8>)>, UpstreamError> {
        match self.client.resolve(&self.reference(repository, name)?) {
            Ok(found) => Ok(Some((
                found.descriptor.media_type().to_string(),
                found.bytes,
            ))),
            Err(error) if error.kind() == TransferErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, UpstreamError> {
        Ok(self.client.tags(&self.reference(repository, "latest")?)?)
    }

    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, UpstreamError> {
        let reference = self.reference(repository, &subject.to_string())?;
        Ok(self.client.referrers(&reference, subject, None)?)
    }

    fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        into: &mut dyn Write,
    ) -> Result<bool, UpstreamError> {
        let reference = self.reference(repository, &digest.to_string())?;
        Ok(self.client.copy_blob(&reference, digest, into)?)
    }
}

fn serve(args: &ServeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let server = Server::open(&args.options(context)?)?;
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
