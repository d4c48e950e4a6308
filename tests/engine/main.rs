//! The real engine, end to end: images made, instances started, watched and removed, and kept from what is not theirs.
//!
//! Everything here belongs to an owner of its own, made up for this run, and is taken away when the last test ends.

mod hardening;
mod images;
mod instances;
mod networks;
mod telling;
mod world;
