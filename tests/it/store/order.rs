//! What no order changes.
