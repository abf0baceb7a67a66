//! What the first payload bytes say.
