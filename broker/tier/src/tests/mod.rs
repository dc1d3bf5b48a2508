//! Scenarios of the whole tier against stores in memory and in a folder.

mod archive;
mod crashes;
mod offload;
mod reads;
