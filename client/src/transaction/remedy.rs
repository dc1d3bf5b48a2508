//! What a failure of a transaction asks for.

use sunseo_proto::{Error, ErrorCode};

/// What to do about an error of a transactional producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call may succeed later; the outcome of this one is unknown.
    Retry,
    /// Abort this transaction, then go on with the next one. When the abort says `TRANSACTION_STATE`, it was committed.
    Abort,
    /// Another producer has the transactional id, or the broker will never accept this one: stop.
    Stop,
}

impl Remedy {
    /// The remedy for an error that a [`TransactionalProducer`](super::TransactionalProducer) returned.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        use ErrorCode::{ProducerFenced, Unauthorized, UnknownTransactionalId, Unsupported};
        match error.code {
            ProducerFenced | UnknownTransactionalId | Unauthorized | Unsupported => Self::Stop,
            _ if error.retryable() => Self::Retry,
            _ => Self::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_remedy() {
        let of = |code| Remedy::of(&Error::new(code, "scripted"));
        assert_eq!(of(ErrorCode::Unavailable), Remedy::Retry);
        assert_eq!(of(ErrorCode::TransactionAborted), Remedy::Abort);
        assert_eq!(of(ErrorCode::BatchTooLarge), Remedy::Abort);
        assert_eq!(of(ErrorCode::FencedMember), Remedy::Abort);
        assert_eq!(of(ErrorCode::ProducerFenced), Remedy::Stop);
        let stops = ErrorCode::ALL.iter().filter(|code| of(**code) == Remedy::Stop).count();
        assert_eq!(stops, 4);
    }
}
