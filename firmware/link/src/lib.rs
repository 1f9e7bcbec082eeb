//! The wire protocol between box and agent. Nothing of mail, nothing of disks: messages, frames, limits, versions.
//!
//! The box speaks first and drives; the agent answers. One connection is one run. [`message`] is the vocabulary with
//! the order in which things are said, [`wire`] its encoding, [`frame`] what surrounds one message, and
//! [`connection`] the two ends: [`BoxSide`] and [`AgentSide`]. On a slow link many messages travel in one compressed
//! frame ([`packed`]); [`pace`] holds whoever moves bytes to a rate. [`role`] says which key is good for what, and
//! [`rebuild`] has the words of the way back.
//!
//! Invariants:
//! - what the peer sends is hostile until it is decoded: a frame is at most [`limits::FRAME_MAX`] bytes, lists are
//!   capped, one message has one encoding; anything else ends the connection with one clear error;
//! - neither end can deadlock the other: the agent's inbox never makes the box wait (what the agent lets the box owe
//!   is bounded, so a box that fills it anyway is broken off), and the box's inbox holds the agent back;
//! - a peer that says nothing for a set time is reported as silent; every end says [`message::ToBox::Alive`] by
//!   itself while it has nothing else to say.

pub mod connection;
mod error;
pub mod frame;
mod inbox;
pub mod limits;
pub mod message;
mod outbox;
pub mod pace;
pub mod packed;
pub mod rebuild;
pub mod role;
mod shared;
pub mod version;
pub mod wire;

pub use connection::{AgentSide, BoxSide, Connection, Options, Sender};
pub use error::LinkError;
pub use role::Role;
pub use shared::SharedBytes;
