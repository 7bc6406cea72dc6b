//! The embedded registry: an OCI distribution server over blobs on disk.
//!
//! It carries out distribution-spec 1.1: pull, push (monolithic, in chunks, mounted), discovery (tags, catalog, referrers) and management.

mod access;
mod answer;
mod blobs;
mod listing;
mod manifests;
mod name;
mod registry;
mod route;
mod sharing;
mod storage;
mod tls;
pub mod trial;
mod uploads;
mod upstream;
mod view;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;

use crate::access::{Entrance, Passwords};
use crate::registry::Registry;
use crate::storage::Storage;
use crate::tls::TlsListener;
use crate::view::View;

pub use crate::tls::TlsFiles;
pub use crate::upstream::{Upstream, UpstreamError};
pub use crate::view::{Asker, Images, ImagesError};

/// How long requests under way may take to end once the registry is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long what is not used is kept when nobody says: as long as a person may take to go on with a push.
const UNUSED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How a registry works.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where it keeps its blobs and repositories; made where it is missing.
    pub root: PathBuf,
    /// A file of names and bcrypt hashes, as `htpasswd -B` writes it; without one everybody comes in. It may change at any time.
    pub passwords: Option<PathBuf>,
    /// The certificate to prove who the registry is; without one it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether it can only be read from.
    pub read_only: bool,
    /// The registry that is asked for what is not here. What it gives is kept.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// Images that are kept elsewhere, to be served in place of those of `root`, which is not touched then. Nobody can write.
    pub images: Option<Arc<dyn Images>>,
    /// A directory with blobs as `ALGORITHM/HEX`, such as a store's: where one is there and in `root`, it becomes one file.
    pub shared: Option<PathBuf>,
    /// How long a blob that no manifest names, and an upload that nobody goes on with, are kept.
    pub unused_kept: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            passwords: None,
            tls: None,
            read_only: false,
            upstream: None,
            images: None,
            shared: None,
            unused_kept: UNUSED_KEPT,
        }
    }
}

/// A registry that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory cannot be used.
    #[error("opening the registry's directory {}", root.display())]
    Open {
        /// The directory.
        root: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A file that it was given cannot be used.
    #[error("reading {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered, or what is wrong with it.
        source: io::Error,
    },
    /// The listener broke.
    #[error("answering the registry's connections")]
    Listen(#[source] io::Error),
}

/// A registry that is ready to serve; its own directory, if it has one, is open and locked.
pub struct Server {
    content: Content,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    unused_kept: Duration,
}

/// What is served.
#[derive(Clone)]
enum Content {
    /// What is in the registry's own directory.
    Own(Arc<Registry>),
    /// What is kept elsewhere.
    View(Arc<View>),
}

impl Content {
    fn router(&self) -> Router {
        match self {
            Self::Own(registry) => Router::new()
                .fallback(registry::answer)
                .with_state(Arc::clone(registry)),
            Self::View(view) => Router::new()
                .fallback(view::answer)
                .with_state(Arc::clone(view)),
        }
    }

    /// Looks after the content for as long as it is served.
    async fn tend(self, unused_kept: Duration) {
        match self {
            Self::Own(registry) => {
                tokio::select! {
                    () = uploads::tend(Arc::clone(&registry), unused_kept) => {}
                    () = sharing::tend(registry) => {}
                }
            }
            Self::View(view) => view::tend(view).await,
        }
    }
}

impl Server {
    /// Opens the directory of `options`, and clears away what an earlier server left half done.
    ///
    /// # Errors
    /// When it cannot be used, or another registry serves it.
    pub fn open(options: &ServerOptions) -> Result<Self, ServeError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::File { path, source }
        };
        let passwords = match &options.passwords {
            Some(path) => Some(Passwords::open(path).map_err(unusable(path))?),
            None => None,
        };
        let acceptor = match &options.tls {
            Some(files) => Some(tls::acceptor(files).map_err(unusable(&files.certificate))?),
            None => None,
        };
        let content = match &options.images {
            Some(images) => Content::View(Arc::new(View {
                images: Arc::clone(images),
                entrance: Entrance {
                    passwords: passwords.map(Arc::new),
                    read_only: true,
                },
            })),
            None => {
                let root: &Path = &options.root;
                let storage = Storage::open(root).map_err(|source| ServeError::Open {
                    root: root.to_owned(),
                    source,
                })?;
                Content::Own(Arc::new(Registry::new(storage, passwords, options)))
            }
        };
        Ok(Self {
            content,
            acceptor,
            unused_kept: options.unused_kept,
        })
    }

    /// Answers requests on `listener` until `stop` is ready, then gives those under way ten seconds to end.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        match self.acceptor.clone() {
            Some(acceptor) => {
                let listener = TlsListener::new(listener, acceptor).map_err(ServeError::Listen)?;
                self.serve_on(listener, stop).await
            }
            None => {
                // Small answers are not to wait for an acknowledgement.
                let listener = listener.tap_io(|stream| {
                    let _ = stream.set_nodelay(true);
                });
                self.serve_on(listener, stop).await
            }
        }
    }

    async fn serve_on<L: axum::serve::Listener<Addr: std::fmt::Debug>>(
        self,
        listener: L,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let router = self.content.router();
        let (stopping, mut stopped) = tokio::sync::oneshot::channel();
        let stop = async move {
            stop.await;
            let _ = stopping.send(());
        };
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
        let too_late = async {
            let _ = (&mut stopped).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving.into_future() => served.map_err(ServeError::Listen),
            () = too_late => Ok(()),
            () = self.content.tend(self.unused_kept) => Ok(()),
        }
    }
}

/// Opens the directory and answers requests on `listener` until `stop` is ready.
///
/// # Errors
/// As [`Server::open`] and [`Server::serve`].
pub async fn serve(
    options: ServerOptions,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Server::open(&options)?.serve(listener, stop).await
}
