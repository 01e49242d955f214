//! The daemon's face to programs: HTTP/1.1 and JSON on a unix socket (`docs/api.md`).
//!
//! `wire` is what both ends say, `client` speaks it, `server` answers it from a [`Backend`](server::Backend) that the
//! daemon is.

pub mod client;
pub mod listen;
pub mod order;
pub mod peer;
pub mod server;
mod stall;
pub mod told;
pub mod wire;
