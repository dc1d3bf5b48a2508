//! Helpers of the scenarios.
