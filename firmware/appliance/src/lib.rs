//! The box's daemon: wires the pure controller to a board, to disks, and to the engine that makes backups.
//!
//! **The way through.** Threads that block (buttons, disks, jobs) report across one [`border`] into the event loop
//! of the [`daemon`]; the loop feeds the controller and carries out the actions it answers with: lamps and words
//! on the board, orders to the disk thread, jobs on threads of their own. The loop itself never blocks on a disk
//! or a network.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`command`] | what a person at a desk may ask |
//! | [`config`] | `box.toml`, read and checked |
//! | [`daemon`] | the event loop |
//! | [`border`] | threads and channels around it; [`inbound`]: what comes across |
//! | [`disks`] | looking at, mounting and unmounting disks, on their thread |
//! | [`job`] | one backup job over all sources |
//! | [`engine`] | the seam to what makes backups; [`pull_engine`]: what really does |
//! | [`indicators`] | patterns to lamps |
//! | [`schedule`], [`ledger`] | when backups begin by themselves; what is remembered |
//! | [`disk_set`] | the set ledger: each disk's name, state and turn |
//! | [`service_manager`] | READY, WATCHDOG, STOPPING |
//! | [`status`] | what the box says of itself; [`report`] makes it |
//! | [`web`] | page, API, events and metrics, over a socket and the network |
//! | [`tool`] | `mailkeep` as a program of its own: standbys and rescue kit after a backup |
//! | [`words`] | every text that a person reads |

pub mod border;
pub mod cli;
pub mod command;
pub mod config;
pub mod daemon;
pub mod disk_set;
pub mod disks;
pub mod engine;
pub mod inbound;
pub mod indicators;
pub mod job;
pub mod ledger;
pub mod pull_engine;
pub mod report;
pub mod schedule;
pub mod service_manager;
mod state_file;
pub mod status;
pub mod tool;
pub mod web;
pub mod words;

pub use config::Config;
pub use daemon::{DaemonError, run};
