//! The loads and the recorder of the simulation against the real binary: processes, sockets, a disk, and a clock that is put wrong.
//!
//! The seed rules the loads and what happens to the node, not what the machine does in between: a seed rarely shows the same run twice.
//! Clock jumps need libfaketime; without it they are left to the simulation, and the report says so.

mod node;
mod run;
mod way;

pub use run::{Process, run};
