//! The composition root: builds the rooms, owns every thread and channel.
//!
//! [`replay`](replay()) runs a file through the rooms on one thread; [`Live`] runs interfaces on several. Both
//! hand frames to the same classifier, meter and engine: nothing behind the packet source knows which of them it is.
//! [`demo`](demo()) shows all of it in one process, with a recording and a platform that ship with the program.
//! [`Service`] is the whole agent: interfaces, ledger, platform, and what is read again on SIGHUP.

mod demo;
mod live;
mod notify;
mod replay;
mod service;
mod telling;

pub use demo::{DemoError, DemoSettings, DemoSummary, Moment, demo};
pub use live::{
    Earlier, Gauges, LinkVitals, Live, LiveError, LiveSettings, Notice, Order, Signals, Sink,
};
pub use notify::{Notifier, NotifyError, NotifySettings};
pub use replay::{ReplaySettings, Summary, busiest_destination, replay};
pub use service::{Service, ServiceError};
