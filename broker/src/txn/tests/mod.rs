//! The state machine request by request, and the coordinator with partitions whose node dies and whose answers get lost.

mod simulation;
mod states;
