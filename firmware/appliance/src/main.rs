//! `mailkeepd`: command line, log, and exit codes around the daemon.
fn main() {}
