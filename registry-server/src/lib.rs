//! The embedded registry: an OCI distribution server over blobs on disk.
//!
//! It carries out distribution-spec 1.1: pull, push (monolithic, in chunks, mounted), discovery (tags, catalog, referrers) and management.

mod answer;
mod blobs;
mod listing;
mod manifests;
mod name;
mod registry;
mod route;
mod storage;
mod uploads;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;

use crate::registry::Registry;
use crate::storage::Storage;

/// How long requests under way may take to end once the registry is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How a registry works.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it keeps its blobs and repositories; made where it is missing.
    pub root: PathBuf,
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
    /// The listener broke.
    #[error("answering the registry's connections")]
    Listen(#[source] io::Error),
}

/// A registry whose directory is open and locked.
pub struct Server {
    registry: Arc<Registry>,
}

impl Server {
    /// Opens the directory of `options`, and clears away what an earlier server left half done.
    ///
    /// # Errors
    /// When it cannot be used, or another registry serves it.
    pub fn open(options: &ServerOptions) -> Result<Self, ServeError> {
        let root: &Path = &options.root;
        let storage = Storage::open(root).map_err(|source| ServeError::Open {
            root: root.to_owned(),
            source,
        })?;
        Ok(Self {
            registry: Arc::new(Registry::new(storage)),
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
        let router = Router::new()
            .fallback(registry::answer)
            .with_state(Arc::clone(&self.registry));
        // Small answers are not to wait for an acknowledgement.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
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
            () = uploads::tend(self.registry) => Ok(()),
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
