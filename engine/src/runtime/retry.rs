//! Calls of the broker that are made until it answers.

use sunseo_client::retry::RetryPolicy;
use sunseo_proto::error::Result;

/// Repeats a call while its error is one that may go away; for calls that are harmless to repeat. Ends only when its future is
/// dropped, which is what stopping a task does.
pub(crate) async fn again<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let policy = RetryPolicy::default();
    let mut attempt = 0;
    loop {
        match call().await {
            Err(error) if error.retryable() => {
                attempt += 1;
                if attempt == 1 {
                    tracing::warn!(%error, "call refused for now, trying again");
                }
                // one task among few: they need no jitter
                tokio::time::sleep(policy.backoff(attempt, 0.0)).await;
            }
            answer => return answer,
        }
    }
}
