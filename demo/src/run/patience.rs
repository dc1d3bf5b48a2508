//! Requests that survive the restarts of the node.

use std::time::Duration;

use sunseo_proto::error::Result as Answer;
use sunseo_proto::{Error, ErrorCode};
use tokio::time::Instant;

use crate::error::{DemoError, Result};

/// A node that does not serve a request for so long is given up; a restart takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Repeats a request while the node is away.
///
/// # Errors
/// What the node refuses, or its last answer when patience ends.
pub async fn insist<T, F: Future<Output = Answer<T>>>(
    doing: &str,
    mut request: impl FnMut() -> F,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) if is_passing(&error) && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(DemoError::request(doing)(error)),
        }
    }
}

/// Whether a node that has just started may say so and mean "not yet".
pub fn is_passing(error: &Error) -> bool {
    let not_yet = [ErrorCode::UnknownPipeline, ErrorCode::UnknownStore, ErrorCode::UnknownSource];
    error.retryable() || not_yet.contains(&error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_repeated_and_what_does_not_is_told() {
        let mut left = 3;
        let answer = insist("asking", || {
            left -= 1;
            let answer =
                if left > 0 { Err(Error::new(ErrorCode::Unavailable, "starting")) } else { Ok(left) };
            async move { answer }
        });
        assert_eq!(answer.await.unwrap(), 0);

        let refused = insist("asking", || async { Err::<(), _>(Error::new(ErrorCode::UnknownTopic, "no")) });
        assert!(matches!(refused.await, Err(DemoError::Request { doing, .. }) if doing == "asking"));

        let begin = Instant::now();
        let never = insist("asking", || async { Err::<(), _>(Error::new(ErrorCode::Unavailable, "no")) });
        assert!(never.await.is_err());
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < PATIENCE * 2);
    }
}
