//! What recovery does more for a partition with `fsync: false`: it keeps whole batches beyond what its state knows, goes on at the log
//! start when that is above all that is left, and ends the transactions whose markers are lost.
//!
//! The journal has the ends of transactions ([`crate::entry::Entry::Ended`]) and not their records. A log loses its tail only, so of
//! each producer at most one transaction comes up open whose end is known: the first end above its epoch is its own.

use bytes::BytesMut;
use sunseo_proto::batch::{self, end_marker, stamp};

use super::Work;
use crate::LogError;
use crate::disk::{Context as _, write_all};
use crate::entry::Ended;
use crate::index::GrowingIndex;
use crate::segment::log_path;
use crate::state::Active;
use crate::transactions::Standing;
use crate::walk::Walk;

impl Work<'_> {
    /// Takes whole batches beyond the state in, over as many segments as follow.
    pub(super) fn go_on(&mut self) -> Result<(), LogError> {
        loop {
            let Active { base, bytes, end, .. } = self.state.active;
            let have = self.there.get(&(base, 0)).copied().unwrap_or(0);
            let file = self.open((base, 0))?;
            let mut walk = Walk::new(file.as_ref(), bytes, have, Some(end));
            let interval = self.how.files.index_interval_bytes;
            while let Some(Ok(walked)) = walk.next() {
                let Ok(position) = batch::position_of(&walked.bytes) else { break };
                self.index.note(walked.header.base_offset, walked.at, walked.header.max_timestamp, interval);
                self.state.push(&walked.header, position, self.how.now_ms);
            }
            self.how.sync_later(log_path(self.state.id, base), file.clone());
            let next = self.state.end();
            if next == base || !self.there.contains_key(&(next, 0)) {
                return Ok(());
            }
            self.old_indexes.insert(base);
            self.state.seal();
            (self.index, self.indexed) = (GrowingIndex::default(), None);
        }
    }

    /// The log start is in the journal, the records it was set behind may be lost: then all that is left lies below it, and the offsets up to
    /// it are not given again.
    pub(super) fn skip_to_log_start(&mut self) -> Result<(), LogError> {
        let lost_from = self.state.end();
        if !self.state.skip_to_log_start() {
            return Ok(());
        }
        let base = self.state.active.base;
        let path = log_path(self.state.id, base);
        tracing::warn!(path = %path.display(), lost_from, "records up to the log start are lost, the log goes on there");
        let file = self.how.files.disk.create(&path).context("cannot create", &path)?;
        self.how.sync_later(path, file);
        self.there.insert((base, 0), 0);
        self.old_indexes.insert(base);
        (self.index, self.indexed) = (GrowingIndex::default(), None);
        Ok(())
    }

    /// Writes the markers of transactions that have ended and came up open. Behind what was cut, so that a recovery that is interrupted finds
    /// the marker or what it found this time.
    pub(super) fn end_transactions(&mut self, ended: &[Ended]) -> Result<(), LogError> {
        let (from, base) = (self.state.active.bytes, self.state.active.base);
        let mut markers = BytesMut::new();
        for Ended { producer_id, epoch, ending } in ended {
            let leader_epoch = self.state.epochs.newest().map_or(0, |(epoch, _)| epoch);
            let marker = end_marker(*producer_id, *epoch, *ending, leader_epoch, self.how.now_ms);
            let damaged = |error: batch::BatchError| LogError::Corrupt {
                path: log_path(self.state.id, base),
                what: format!("the marker of producer {producer_id} does not read: {error}"),
            };
            let mut header = batch::validate(&marker).map_err(damaged)?;
            if !matches!(self.state.transactions.check(&header), Ok(Standing::News)) {
                continue;
            }
            (header.base_offset, header.leader_epoch) = (self.state.end(), leader_epoch);
            let start = markers.len();
            markers.extend_from_slice(&marker);
            stamp(&mut markers[start..], header.base_offset, leader_epoch);
            let interval = self.how.files.index_interval_bytes;
            self.index.note(header.base_offset, self.state.active.bytes, header.max_timestamp, interval);
            self.state.push(&header, None, self.how.now_ms);
        }
        if markers.is_empty() {
            return Ok(());
        }
        let (path, file) = (log_path(self.state.id, base), self.open((base, 0))?);
        tracing::warn!(path = %path.display(), "markers of ended transactions were lost and are written again");
        file.sync_data().context("cannot sync", &path)?;
        write_all(file.as_ref(), &markers, from).context("cannot write", &path)?;
        self.how.sync_later(path, file);
        Ok(())
    }
}
