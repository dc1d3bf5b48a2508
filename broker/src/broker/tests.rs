//! A whole node, in process and over a socket.

mod support;

mod produce_fetch;
