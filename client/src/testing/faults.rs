//! What goes wrong on the way to the broker and back: drawn from its seed, one request at a time.

use rand::RngExt as _;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use super::broker::Broker;

/// Chance, of 100, that one of the late requests arrives before the next one.
const ARRIVES: u32 = 40;

/// Chances per request, of 100.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lose_request: u32,
    pub lose_answer: u32,
    /// The caller is told there was no answer; the request takes effect during some later one.
    pub late: u32,
    /// Each partition of a request on its own.
    pub refuse: u32,
}

impl Faults {
    /// The same chance for each.
    pub fn each(percent: u32) -> Self {
        Self { lose_request: percent, lose_answer: percent, late: percent, refuse: percent }
    }
}

fn unreachable() -> Error {
    Error::new(ErrorCode::Unavailable, "scripted loss")
}

impl Broker {
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// For calls that have no effect, or one that may be repeated.
    pub(super) fn request_arrives(&mut self) -> Result<()> {
        let percent = self.faults.lose_request;
        if self.chance(percent) { Err(unreachable()) } else { Ok(()) }
    }

    pub(super) fn answered<T>(&mut self, answer: T) -> Result<T> {
        let percent = self.faults.lose_answer;
        if self.chance(percent) { Err(unreachable()) } else { Ok(answer) }
    }

    pub(super) fn produce(&mut self, request: v1::ProduceRequest) -> Result<v1::ProduceResponse> {
        self.produced += 1;
        if !self.late.is_empty() && self.chance(ARRIVES) {
            let at = self.rng.random_range(0..self.late.len());
            let late = self.late.remove(at);
            self.append(&late, false);
        }
        self.request_arrives()?;
        if self.chance(self.faults.late) {
            self.late.push(request);
            return Err(Error::new(ErrorCode::TimedOut, "scripted silence"));
        }
        let results = self.append(&request, true);
        self.answered(v1::ProduceResponse { results, ..Default::default() })
    }

    /// What was late has arrived, and nothing goes wrong any more.
    pub(super) fn calm(&mut self) {
        for request in std::mem::take(&mut self.late) {
            self.append(&request, false);
        }
        self.faults = Faults::default();
    }
}
