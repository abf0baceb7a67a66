//! Frames from an interface, through libpcap.
