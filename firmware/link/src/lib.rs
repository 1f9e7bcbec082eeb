//! The wire protocol between box and agent. Nothing of mail, nothing of disks: messages, frames, limits, versions.
//!
//! The box speaks first and drives; the agent answers. One connection is one run. [`message`] is the vocabulary with
//! the order in which things are said.

pub mod message;
