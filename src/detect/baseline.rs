//! What is normal here.
