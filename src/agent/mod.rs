//! The composition root: builds the rooms, owns every thread and channel.
//!
//! [`replay`](replay()) runs a file through the rooms on one thread; [`Live`] runs interfaces on several. Both
//! hand frames to the same classifier, meter and engine: nothing behind the packet source knows which of them it is.

mod live;
mod notify;
mod replay;

pub use live::{Gauges, LinkVitals, Live, LiveError, LiveSettings, Notice, Signals, Sink};
pub use notify::{Notifier, NotifyError, NotifySettings};
pub use replay::{ReplaySettings, Summary, busiest_destination, replay};
