//! The command line as it is typed: raw values, nothing checked that needs more than one flag. See `options.rs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use mailkeep_drill::Amount;
use mailkeep_mail::source::{Rate, parse_duration, parse_rate};

use crate::text::{self, drill, flag, mail, pairing, rescue, server, the_box, verb};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "mailkeep",
    version,
    about = text::ABOUT,
    after_help = text::AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    #[arg(short = 'r', long, global = true, value_name = "DIR", help = flag::REPO)]
    pub(crate) repo: Option<PathBuf>,
    #[arg(long, global = true, value_name = "FILE", help = flag::KEY_FILE)]
    pub(crate) key_file: Option<PathBuf>,
    #[arg(long, global = true, value_name = "FILE", help = flag::CONFIG)]
    pub(crate) config: Option<PathBuf>,
    #[arg(long, global = true, help = flag::JSON)]
    pub(crate) json: bool,
    #[arg(short, long, global = true, help = flag::QUIET)]
    pub(crate) quiet: bool,
    #[arg(short, long, global = true, action = ArgAction::Count, help = flag::VERBOSE)]
    pub(crate) verbose: u8,
    #[arg(long, global = true, help = flag::NO_PROGRESS)]
    pub(crate) no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = verb::INIT)]
    Init(Init),
    #[command(about = verb::BACKUP)]
    Backup(Backup),
    #[command(about = pairing::ABOUT, long_about = pairing::LONG)]
    Pair(Pair),
    #[command(about = verb::SNAPSHOTS)]
    Snapshots(Snapshots),
    #[command(about = verb::SHOW)]
    Show(Show),
    #[command(about = verb::LS)]
    Ls(Ls),
    #[command(about = verb::FIND)]
    Find(Find),
    #[command(about = verb::DIFF)]
    Diff(Diff),
    #[command(about = verb::MOUNT)]
    Mount(Mount),
    #[command(about = mail::ABOUT, subcommand_required = true, arg_required_else_help = true)]
    Mail {
        #[command(subcommand)]
        verb: Mail,
    },
    #[command(about = verb::RESTORE)]
    Restore(Restore),
    #[command(about = server::ABOUT, long_about = server::LONG)]
    RestoreServer(RestoreServer),
    #[command(about = server::PROMOTE, long_about = server::PROMOTE_LONG)]
    Promote(Promote),
    #[command(about = drill::ABOUT, long_about = drill::LONG)]
    Drill(Drill),
    #[command(about = verb::VERIFY)]
    Verify(Verify),
    #[command(about = verb::PRUNE, long_about = verb::PRUNE_LONG)]
    Prune(Prune),
    #[command(about = verb::REINDEX)]
    Reindex,
    #[command(about = verb::REPAIR)]
    Repair(Repair),
    #[command(about = verb::STATS)]
    Stats,
    #[command(about = verb::KEY, subcommand_required = true, arg_required_else_help = true)]
    Key {
        #[command(subcommand)]
        verb: Key,
    },
    #[command(about = rescue::ABOUT, long_about = rescue::LONG)]
    RescueKit(RescueKit),
    #[command(about = verb::GUARDS, subcommand_required = true, arg_required_else_help = true)]
    Guards {
        #[command(subcommand)]
        verb: Guards,
    },
    #[command(about = verb::UNLOCK)]
    Unlock,
    #[command(about = the_box::STATUS, long_about = the_box::STATUS_LONG)]
    Status(Status),
    #[command(about = the_box::EJECT)]
    Eject(Eject),
    #[command(about = verb::GENERATE, subcommand_required = true, arg_required_else_help = true)]
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
}

impl Verb {
    /// Whether it goes through a repository, which takes some memory.
    pub(crate) fn holds_much(&self) -> bool {
        use Verb::{Backup, Drill, Mount, Prune, Reindex, Repair, Restore, RestoreServer, Verify};
        matches!(
            self,
            Backup(_)
                | Drill(_)
                | Mount(_)
                | Restore(_)
                | RestoreServer(_)
                | Verify(_)
                | Prune(_)
                | Repair(_)
                | Reindex
        )
    }

    /// Whether this process is the one that went into the background.
    pub(crate) fn is_in_background(&self) -> bool {
        matches!(self, Verb::Mount(mount) if mount.in_background)
    }
}

/// Which box is asked.
#[derive(Debug, Args)]
pub(crate) struct AtBox {
    #[arg(long = "box", env = "MAILKEEP_BOX", value_name = "WHERE", help = the_box::AT)]
    pub(crate) at: Option<String>,
    #[arg(long, env = "MAILKEEP_BOX_TOKEN_FILE", value_name = "FILE", help = the_box::TOKEN)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) at: AtBox,
    #[arg(long, value_name = "DISK", help = the_box::TRUST)]
    pub(crate) trust: Option<String>,
    #[arg(long, value_name = "DISK", help = the_box::FORGET)]
    pub(crate) forget: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Eject {
    #[command(flatten)]
    pub(crate) at: AtBox,
    #[arg(value_name = "DISK", help = the_box::EJECT_DISK)]
    pub(crate) disk: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[arg(long, value_name = "NAME", help = verb::INIT_LABEL)]
    pub(crate) label: Option<String>,
    #[arg(long, help = verb::INIT_PLAIN)]
    pub(crate) no_encryption: bool,
    #[arg(long, value_name = "FILE", conflicts_with = "no_encryption", help = verb::INIT_RECOVERY)]
    pub(crate) recovery_out: Option<PathBuf>,
    #[arg(long, value_name = "FILE", conflicts_with = "no_encryption", help = rescue::SHEET)]
    pub(crate) sheet: Option<PathBuf>,
    #[arg(long = "program", value_name = "FILE", help = rescue::PROGRAM)]
    pub(crate) programs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RescueKit {
    #[arg(long = "program", value_name = "FILE", help = rescue::PROGRAM)]
    pub(crate) programs: Vec<PathBuf>,
    #[arg(long, conflicts_with = "programs", help = rescue::CHECK)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[arg(long, value_name = "FILE", help = verb::BACKUP_SOURCE)]
    pub(crate) source: PathBuf,
    #[arg(long, help = verb::BACKUP_FORCE)]
    pub(crate) force_window: bool,
    #[arg(short = 'n', long, help = verb::BACKUP_DRY)]
    pub(crate) dry_run: bool,
    #[arg(long, conflicts_with = "force_window", help = verb::BACKUP_LIVE)]
    pub(crate) live_only: bool,
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help = verb::BACKUP_LIMIT)]
    pub(crate) limit_download: Option<Rate>,
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help = verb::BACKUP_CHECKPOINT)]
    pub(crate) checkpoint_interval: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Pair {
    #[arg(value_name = "USER@HOST", help = pairing::SERVER)]
    pub(crate) server: String,
    #[arg(long, value_name = "FILE", help = pairing::OUT)]
    pub(crate) source_out: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = pairing::NAME)]
    pub(crate) name: Option<String>,
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help = pairing::PORT)]
    pub(crate) port: Option<u16>,
    #[arg(short, long, value_name = "FILE", help = pairing::IDENTITY)]
    pub(crate) identity: Option<PathBuf>,
    #[arg(long, value_name = "SHA256:…", help = pairing::HOST_KEY)]
    pub(crate) host_key: Option<String>,
    #[arg(long, conflicts_with = "host_key", help = pairing::ACCEPT)]
    pub(crate) accept_new_host_key: bool,
    #[arg(long, value_name = "FILE", help = pairing::AGENT)]
    pub(crate) agent: Option<PathBuf>,
    #[arg(long, value_name = "DIR", default_value = "/usr/local/lib/mailkeep", help = pairing::AGENT_DIR)]
    pub(crate) agent_dir: PathBuf,
    #[arg(long, value_name = "FILE", help = pairing::KEYS)]
    pub(crate) authorized_keys: Option<String>,
    #[arg(long, value_name = "DIR", help = pairing::PAIRINGS)]
    pub(crate) pairings: Option<PathBuf>,
    #[arg(long, value_name = "FILE", help = pairing::IMAPD)]
    pub(crate) imapd_conf: Option<String>,
    #[arg(long = "path", value_name = "DIR", conflicts_with = "imapd_conf", help = pairing::PATH)]
    pub(crate) paths: Vec<String>,
    #[arg(long, help = pairing::UNDO)]
    pub(crate) undo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Snapshots {
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    #[arg(value_name = "SNAPSHOT", help = flag::SNAPSHOT)]
    pub(crate) snapshot: String,
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(value_name = "PATH", default_value = "/", help = flag::PATH_IN)]
    pub(crate) path: PathBuf,
    #[arg(short = 'R', long, help = verb::LS_RECURSIVE)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    #[arg(value_name = "PATTERN", help = verb::FIND_PATTERN)]
    pub(crate) pattern: String,
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
    #[arg(short, long, help = verb::FIND_CASE)]
    pub(crate) ignore_case: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[arg(value_name = "A", help = flag::SNAPSHOT)]
    pub(crate) old: String,
    #[arg(value_name = "B", help = flag::SNAPSHOT)]
    pub(crate) new: String,
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
    #[arg(long, value_name = "P", default_value = "/", help = verb::DIFF_PATH)]
    pub(crate) path: PathBuf,
    #[arg(long, help = verb::DIFF_METADATA)]
    pub(crate) metadata: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Mount {
    #[arg(value_name = "MOUNTPOINT", help = verb::MOUNT_POINT)]
    pub(crate) point: PathBuf,
    #[arg(long, help = verb::MOUNT_OTHER)]
    pub(crate) allow_other: bool,
    #[arg(long, help = verb::MOUNT_FOREGROUND)]
    pub(crate) foreground: bool,
    /// Set by the tool itself for the process that goes into the background.
    #[arg(long, hide = true)]
    pub(crate) in_background: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mail {
    #[command(about = mail::LS)]
    Ls {
        #[command(flatten)]
        which: Which,
        #[arg(value_name = "MAILBOX", help = mail::MAILBOX)]
        mailbox: Option<String>,
        #[arg(long, help = mail::EVERYTHING)]
        all: bool,
    },
    #[command(about = mail::CAT)]
    Cat {
        #[command(flatten)]
        which: Which,
        #[arg(value_name = "MAILBOX", help = mail::MAILBOX)]
        mailbox: String,
        #[arg(value_name = "UID", help = mail::UID, value_parser = clap::value_parser!(u32).range(1..))]
        uid: u32,
    },
    #[command(about = mail::SEARCH, long_about = mail::SEARCH_LONG)]
    Search(MailSearch),
    #[command(about = mail::RESTORE, long_about = mail::RESTORE_LONG)]
    Restore(MailRestore),
    #[command(about = mail::EXPORT)]
    Export {
        #[command(flatten)]
        which: Which,
        #[arg(value_name = "MAILBOX", help = mail::MAILBOX)]
        mailbox: String,
        #[arg(long, value_name = "FILE", help = mail::MBOX, required_unless_present = "maildir", conflicts_with = "maildir")]
        mbox: Option<PathBuf>,
        #[arg(long, value_name = "DIR", help = mail::MAILDIR)]
        maildir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MailRestore {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(value_name = "MAILBOX", help = mail::MAILBOX_OR_ALL, required_unless_present_any = ["search", "recursive"])]
    pub(crate) mailbox: Option<String>,
    #[arg(value_name = "UID", help = mail::UIDS, value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["search", "recursive"])]
    pub(crate) uids: Vec<u32>,
    #[arg(long, value_name = "TERM", help = mail::RESTORE_SEARCH)]
    pub(crate) search: Vec<String>,
    #[arg(long, help = mail::RESTORE_TREE)]
    pub(crate) recursive: bool,
    #[arg(long, value_name = "URL", help = mail::IMAP)]
    pub(crate) imap: String,
    #[arg(long, value_name = "FOLDER", conflicts_with = "in_place", help = mail::INTO)]
    pub(crate) into: Option<String>,
    #[arg(long, help = mail::IN_PLACE)]
    pub(crate) in_place: bool,
    #[arg(long, help = mail::FLAGS_ONLY)]
    pub(crate) flags_only: bool,
    #[arg(long, requires = "flags_only", help = mail::EXACT)]
    pub(crate) exact: bool,
    #[arg(long = "as", value_name = "USER", help = mail::AS)]
    pub(crate) acts_for: Option<String>,
    #[arg(long, value_name = "FILE", help = mail::PASSWORD_FILE)]
    pub(crate) password_file: Option<PathBuf>,
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_file", help = mail::PASSWORD_COMMAND)]
    pub(crate) password_command: Option<String>,
    #[arg(long, value_name = "FILE", help = mail::CA_FILE)]
    pub(crate) ca_file: Option<PathBuf>,
    #[arg(short = 'n', long, help = mail::RESTORE_DRY)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MailSearch {
    #[arg(value_name = "TERM", required = true, help = mail::TERMS)]
    pub(crate) terms: Vec<String>,
    #[arg(long, conflicts_with = "snapshot", help = mail::ALL)]
    pub(crate) all_snapshots: bool,
    #[arg(long, conflicts_with = "snapshot", help = mail::ALL_DISKS)]
    pub(crate) all_disks: bool,
    #[arg(long, value_name = "SNAPSHOT", help = mail::ONLY)]
    pub(crate) snapshot: Option<String>,
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(short, long, value_name = "DIR", help = verb::RESTORE_TARGET)]
    pub(crate) target: PathBuf,
    #[arg(long = "path", value_name = "P", help = verb::RESTORE_PATH)]
    pub(crate) paths: Vec<PathBuf>,
    #[arg(long, help = verb::RESTORE_DELETE)]
    pub(crate) delete: bool,
    #[arg(short = 'n', long, help = verb::RESTORE_DRY)]
    pub(crate) dry_run: bool,
    #[arg(long, value_enum, default_value_t = Overwrite::Always, value_name = "WHEN", help = verb::RESTORE_OVERWRITE)]
    pub(crate) overwrite: Overwrite,
    #[arg(long, help = verb::RESTORE_NUMERIC)]
    pub(crate) numeric: bool,
    #[arg(long, value_enum, default_value_t = Special::Auto, value_name = "WHAT", help = verb::RESTORE_SPECIAL)]
    pub(crate) special: Special,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
    #[command(flatten)]
    pub(crate) which: Which,
    #[arg(long, value_name = "DIR", help = drill::SCRATCH)]
    pub(crate) scratch: Option<PathBuf>,
    #[arg(long, value_name = "N%|N", help = drill::SAMPLE)]
    pub(crate) sample: Option<Amount>,
    #[arg(long, value_name = "NUMBER", requires = "sample", help = drill::SEED)]
    pub(crate) seed: Option<u32>,
    #[arg(long, help = drill::NO_CYRUS)]
    pub(crate) no_cyrus: bool,
    #[arg(long, value_name = "DIR", conflicts_with = "no_cyrus", help = drill::CYRUS_BIN)]
    pub(crate) cyrus_bin: Option<PathBuf>,
    #[arg(long, value_name = "DURATION", default_value = "10m", help = drill::RETRY)]
    pub(crate) retry_lock: String,
    #[arg(short = 'n', long, help = drill::DRY)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreServer {
    #[arg(value_name = "SNAPSHOT", help = flag::SNAPSHOT, required_unless_present = "drop_old")]
    pub(crate) snapshot: Option<String>,
    #[arg(long, value_name = "FILE", help = server::SOURCE)]
    pub(crate) source: PathBuf,
    #[arg(short = 'n', long, help = server::DRY)]
    pub(crate) dry_run: bool,
    #[arg(long, help = server::YES)]
    pub(crate) yes: bool,
    #[arg(long, help = server::STANDBY)]
    pub(crate) as_standby: bool,
    #[arg(long, value_name = "URL", conflicts_with = "as_standby", help = server::IMAP)]
    pub(crate) imap: Option<String>,
    #[arg(long, value_name = "FILE", requires = "imap", help = mail::PASSWORD_FILE)]
    pub(crate) password_file: Option<PathBuf>,
    #[arg(long, value_name = "COMMAND", requires = "imap", conflicts_with = "password_file", help = mail::PASSWORD_COMMAND)]
    pub(crate) password_command: Option<String>,
    #[arg(long, value_name = "FILE", requires = "imap", help = mail::CA_FILE)]
    pub(crate) ca_file: Option<PathBuf>,
    #[arg(long, conflicts_with_all = ["snapshot", "dry_run", "as_standby", "imap"], help = server::DROP)]
    pub(crate) drop_old: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Promote {
    #[arg(long, value_name = "FILE", help = server::SOURCE)]
    pub(crate) source: PathBuf,
    #[arg(long, value_enum, default_value_t = Event::Failover, value_name = "EVENT", help = server::EVENT)]
    pub(crate) event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Event {
    Start,
    Failover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overwrite {
    Always,
    IfChanged,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Special {
    Auto,
    Keep,
    LeaveOut,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[arg(long, help = verb::VERIFY_ALL)]
    pub(crate) read_data: bool,
    #[arg(long, value_name = "n/t", conflicts_with = "read_data", help = verb::VERIFY_SLICE)]
    pub(crate) read_data_slice: Option<String>,
    #[arg(
        long,
        value_name = "K",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = text::SLICES,
        conflicts_with_all = ["read_data", "read_data_slice"],
        help = verb::VERIFY_NEXT
    )]
    pub(crate) read_data_next: Option<u32>,
    #[arg(long, help = verb::VERIFY_MAIL)]
    pub(crate) mail: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[arg(short = 'n', long, help = verb::REPAIR_DRY)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_LAST)]
    pub(crate) keep_last: u32,
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_HOURLY)]
    pub(crate) keep_hourly: u32,
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_DAILY)]
    pub(crate) keep_daily: u32,
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_WEEKLY)]
    pub(crate) keep_weekly: u32,
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_MONTHLY)]
    pub(crate) keep_monthly: u32,
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help = verb::PRUNE_YEARLY)]
    pub(crate) keep_yearly: u32,
    #[arg(long, value_name = "NAME", help = flag::SOURCE)]
    pub(crate) source: Option<String>,
    #[arg(short = 'n', long, help = verb::PRUNE_DRY)]
    pub(crate) dry_run: bool,
    #[arg(long, value_name = "DURATION", default_value = "24h", help = verb::PRUNE_GRACE)]
    pub(crate) grace: String,
    #[arg(long, help = verb::PRUNE_SHRUNK)]
    pub(crate) accept_shrunk: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    #[command(about = verb::KEY_LS)]
    Ls,
    #[command(about = verb::KEY_ADD)]
    AddRecovery {
        #[arg(long, value_name = "FILE", help = verb::INIT_RECOVERY)]
        out: Option<PathBuf>,
        #[arg(long, value_name = "FILE", help = rescue::SHEET)]
        sheet: Option<PathBuf>,
    },
    #[command(about = verb::KEY_REVOKE)]
    Revoke {
        #[arg(value_name = "ID", help = verb::KEY_REVOKE_ID)]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Guards {
    #[command(about = verb::GUARDS_LIST)]
    List,
    #[command(about = verb::GUARDS_BACK)]
    Rollback {
        #[arg(value_name = "GUARD", help = verb::GUARDS_NAME)]
        guard: String,
        #[arg(long, help = verb::GUARDS_DRY)]
        dry_run: bool,
        #[arg(long, conflicts_with = "dry_run", help = verb::GUARDS_YES)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    #[command(about = verb::GENERATE_MAN)]
    Man {
        #[arg(long, value_name = "DIR", help = verb::GENERATE_MAN_OUT)]
        out: Option<PathBuf>,
    },
    #[command(about = verb::GENERATE_COMPLETIONS)]
    Completions {
        #[arg(value_enum, value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    /// A command line as a shell would part it, up to a comment.
    fn parted(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for letter in line.chars() {
            match letter {
                '"' => quoted = !quoted,
                '#' if !quoted && word.is_empty() => break,
                ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
                letter => word.push(letter),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        words
    }

    #[test]
    fn every_command_of_the_readme_is_one() {
        let readme =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
        let (mut whole, mut in_block) = (0, false);
        for line in readme.lines() {
            if line.starts_with("```") {
                in_block = !in_block;
            }
            if in_block && line.starts_with("mailkeep ") {
                whole += 1;
                let parsed = Cli::try_parse_from(parted(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
        assert!(whole > 20, "only {whole} commands");
        // In the text a command may be named without all that it needs.
        let joined = readme.replace('\n', " ");
        for named in joined.split('`').skip(1).step_by(2).filter(|named| named.starts_with("mailkeep ")) {
            let named = named.trim_end_matches(" …");
            if let Err(error) = Cli::try_parse_from(parted(named)) {
                let is_short = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                assert!(is_short, "{named}: {error}");
            }
        }
    }
}
