//! Support for the suites in `tests/tests`: a real Cyrus and a real sshd on loopback, trees with every
//! kind of file, the programs under test, and repeatable data. Suites are named by the hazard they guard
//! against; a suite that cannot run on this machine says so (see [`process::skip`]).

pub mod block;
pub mod clock;
pub mod cyrus;
pub mod mime;
pub mod mutations;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rig;
pub mod rng;
pub mod ssh;
pub mod stalls;
pub mod systemd;
pub mod tree;
pub mod wire;
pub mod words;
