//! Moments that something is waited for until.

use tokio::time::Instant;

/// The moment has come; never, if there is none.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
