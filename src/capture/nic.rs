//! What the kernel says about an interface: exact counters, addresses, offloads.
