//! Produce and fetch.
