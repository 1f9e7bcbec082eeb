//! The command line of `mailkeepd`.

use std::path::PathBuf;

use clap::Parser;

/// The box: lamps, buttons, disks, and a backup at the push of a button.
#[derive(Debug, Parser)]
#[command(name = "mailkeepd", version, about, max_term_width = 100)]
pub struct Cli {
    /// The box's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/mailkeep/box.toml", env = "MAILKEEP_BOX_CONFIG")]
    pub config: PathBuf,

    /// Check the configuration and all files that it names, say what it means, and exit
    #[arg(long, conflicts_with = "list_usb")]
    pub check_config: bool,

    /// List the USB disks that are plugged in, and exit
    #[arg(long)]
    pub list_usb: bool,

    /// Append the log to this file instead of stderr (where the bench board draws on the terminal, the default is
    /// mailkeepd.log in the state folder)
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}
