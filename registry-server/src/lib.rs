//! The embedded registry: an OCI distribution server over blobs on disk.

use std::future::Future;
use std::path::PathBuf;

/// How a registry works.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where it keeps its blobs and repositories; made where it is missing.
    pub root: PathBuf,
}

/// A registry that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {}

/// Answers requests on `listener` until `stop` is ready, then ends those under way.
///
/// # Errors
/// When the registry's directory cannot be made or the listener breaks.
pub async fn serve(
    options: ServerOptions,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let _ = (options, listener, stop);
    todo!()
}
