//! Something to try the agent with: a platform inside the process, and a recording played in real time.
//!
//! For tests and for `ftagent demo`. Nothing here reaches beyond the loopback interface.

pub mod platform;

mod play;
mod scene;

pub use play::Player;
pub use scene::{HOST, RECORDING, node_config};
