//! Lines that are seen in a passing run, too: what a test measured, and what it could not check.

/// `println!` for what people are to read. The harness keeps what `println!` writes for tests that fail; this goes past
/// it, to the process's own standard output, a line in one piece.
macro_rules! tell {
    ($($line:tt)*) => {{
        let line = format!("{}\n", format_args!($($line)*));
        // Who closed standard output wants no lines.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
    }};
}

#[allow(
    unused_imports,
    reason = "each test binary uses its own part of what they share"
)]
pub(crate) use tell;
