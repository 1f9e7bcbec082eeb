//! What the box does, as a pure machine: `(state, event, now) -> (state, actions)`.
//!
//! **The way through.** A board or a running job reports an [`Event`]; [`State::step`] changes the state and
//! answers with [`Action`]s for the appliance to carry out; the appliance reports how each went as a further
//! event. [`lamps`] says at any time what the front panel shows. Nothing here does I/O, reads a clock or knows
//! a file: time is an input, so a year of the box's life can be played in a test within a second.
//!
//! | module | owns |
//! |---|---|
//! | [`moment`] | [`Moment`] and [`Span`]: time as the machine sees it |
//! | [`event`] | what can happen |
//! | [`action`] | what the machine asks for, and the notices meant for people |
//! | [`disk`] | the life of the disk in the slot |
//! | [`job`] | the life of a backup or restore |
//! | [`button`] | edges to gestures: short, held, chord |
//! | [`arming`] | the two steps that a restore by button needs |
//! | [`fault`] | the latch that keeps a fault visible until someone has acknowledged it |
//! | [`lamp`] | lamps and their patterns |
//! | [`state`] | the whole, and the step |
//! | [`front_panel`] | what the lamps show, as a function of the state |
//! | [`limits`] | the numbers of the front panel |
//!
//! **Invariants**, each held by a property test in `tests/properties.rs`:
//! - the DISK lamp is never steady while the disk is, or may be, mounted or worked on;
//! - a disk is mounted for writing only if it was identified as ours, in this stay in the slot;
//! - no eject is asked for while a job works on the disk;
//! - no restore starts without arming and then the chord within its time;
//! - a new fault shows as fast blink until it is acknowledged, whatever else happens, also over a restart;
//! - every event is accepted in every state (the step is total), and time that jumps back is held still.

pub mod action;
pub mod arming;
pub mod button;
pub mod disk;
pub mod event;
pub mod fault;
pub mod front_panel;
pub mod job;
pub mod lamp;
pub mod limits;
pub mod moment;
pub mod state;

pub use action::{Action, Notice};
pub use button::Button;
pub use event::{Event, Identity};
pub use fault::{Fault, Latched};
pub use front_panel::lamps;
pub use job::{JobId, JobKind, JobResult, Phase};
pub use lamp::{Lamp, Pattern};
pub use moment::{Moment, Span};
pub use state::{Settings, State};
