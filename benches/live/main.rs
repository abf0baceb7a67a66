//! What the whole agent takes and how fast it is, each figure beside its budget: `make measure`.
//!
//! Real traffic over a link made here, the real ledger on the disk, and the platform to try things with on the loopback
//! interface. Measures what its arguments name, one after the other, and prints a line for each figure; `cargo test` and
//! `make bench` name nothing. Needs root, for the namespaces.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made says so by panicking"
)]
#![expect(clippy::print_stdout, reason = "figures are for people to read")]

#[path = "../../tests/common/mod.rs"]
mod common;
mod cpu;
mod figures;
mod memory;
#[path = "../../tests/whole/node.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod node;
mod process;
mod reload;
mod wire;

fn main() {
    // Options are cargo's and criterion's.
    let named = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'));
    for name in named {
        match name.as_str() {
            "wire" => wire::measure(),
            "cpu" => cpu::measure(),
            "memory" => memory::measure(),
            // The process that `memory` looks at.
            memory::AN_HOUR => return memory::an_hour_of_outage(),
            "reload" => reload::measure(),
            other => panic!("{other}: expected wire, cpu, memory or reload"),
        }
    }
}
