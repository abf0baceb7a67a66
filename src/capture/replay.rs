//! Frames from a pcap or pcapng file.
