//! Which limits are in force and where they come from.
