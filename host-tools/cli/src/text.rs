//! Every text that a person reads from this tool, in plain words: help, hints, headings, reports.
//!
//! Texts of errors that come from a library are the library's; what is added to them here is the hint.

/// One line on what this is.
pub(crate) const ABOUT: &str =
    "Back up a mail server onto a disk, look into the backups, and get things back";

/// Shown under the list of verbs.
pub(crate) const AFTER_HELP: &str = "\
A repository is a folder on a disk. Name it with -r, MAILKEEP_REPO, or `repo` in the config file.
SNAPSHOT is an id, the beginning of one, or `latest`.

Exit codes: 0 done · 2 done, but some things could not be done · 1 failed · 11 repository locked · 64 usage ·
65 damaged data found · 75 disk or source absent · 77 wrong or missing key · 78 bad config · 130 interrupted";

/// Help of the global flags.
pub(crate) mod flag {
    pub(crate) const REPO: &str = "Folder of the repository [env: MAILKEEP_REPO]";
    pub(crate) const KEY_FILE: &str = "File with the box key or the recovery key [env: MAILKEEP_KEY_FILE] [default: box.key in the config folder]";
    pub(crate) const CONFIG: &str =
        "Config file (TOML: repo, key-file) [default: cli.toml in the config folder]";
    pub(crate) const JSON: &str = "Write one JSON object per line on stdout";
    pub(crate) const QUIET: &str = "Say only what was asked for, and errors";
    pub(crate) const VERBOSE: &str = "Say more; twice for the log of what is going on inside";
    pub(crate) const NO_PROGRESS: &str = "No progress bar and no status lines";
    pub(crate) const SNAPSHOT: &str = "Id, the beginning of an id, or `latest`";
    pub(crate) const SOURCE: &str = "Only snapshots of this source";
    pub(crate) const PATH_IN: &str = "Path as on the server";
}

/// Help of the verbs and of their own flags.
pub(crate) mod verb {
    pub(crate) const INIT: &str = "Make a repository in an empty or new folder";
    pub(crate) const INIT_LABEL: &str = "Name of the disk, as on its sticker [default: the folder's name]";
    pub(crate) const INIT_PLAIN: &str = "Leave it readable for everybody who has the disk";
    pub(crate) const INIT_RECOVERY: &str = "Write the recovery key to this new file instead of showing it";
    pub(crate) const BACKUP: &str = "Pull a source into the repository";
    pub(crate) const BACKUP_SOURCE: &str = "Source file (TOML)";
    pub(crate) const BACKUP_FORCE: &str =
        "Stop mail even if that is expected to take longer than the outage budget";
    pub(crate) const BACKUP_DRY: &str = "Only tell what would be done";
    pub(crate) const BACKUP_LIVE: &str = "Never stop mail; the snapshot is marked not consistent";
    pub(crate) const SNAPSHOTS: &str = "List the snapshots";
    pub(crate) const SHOW: &str = "Show what is known of a snapshot: passes, window, versions, mail check";
    pub(crate) const LS: &str = "List a folder of a snapshot";
    pub(crate) const LS_RECURSIVE: &str = "Everything below, one line each";
    pub(crate) const FIND: &str = "Find names in all snapshots";
    pub(crate) const FIND_PATTERN: &str = "Name or path; *, ?, [a-z] and {a,b} are wildcards. With a / it is matched against \
                                           whole paths";
    pub(crate) const FIND_CASE: &str = "Upper and lower case are the same";
    pub(crate) const DIFF: &str =
        "Show what changed between two snapshots: + added, - removed, M contents, T kind";
    pub(crate) const DIFF_PATH: &str = "Only at and below this path";
    pub(crate) const DIFF_METADATA: &str =
        "Also show (as U) where only owner, mode, time or attributes changed";
    pub(crate) const MOUNT: &str = "Show the snapshots as read-only folders (FUSE)";
    pub(crate) const MOUNT_POINT: &str = "An existing folder";
    pub(crate) const MOUNT_OTHER: &str =
        "Let the other users of this machine in, with the permissions of the files";
    pub(crate) const MOUNT_FOREGROUND: &str = "Stay in the foreground until unmounted or interrupted";
    pub(crate) const RESTORE: &str = "Restore files into a folder, with their metadata";
    pub(crate) const RESTORE_TARGET: &str =
        "Folder that the files come into, with their whole paths below it";
    pub(crate) const RESTORE_PATH: &str = "Only this path of the snapshot (can be given several times)";
    pub(crate) const RESTORE_DELETE: &str =
        "Remove what the snapshot does not have, within the paths asked for";
    pub(crate) const RESTORE_DRY: &str = "Only show what would be done";
    pub(crate) const RESTORE_OVERWRITE: &str = "What to do with files that are there";
    pub(crate) const RESTORE_NUMERIC: &str =
        "Keep the numbers of owners instead of looking up their names here";
    pub(crate) const VERIFY: &str = "Check that the repository is whole";
    pub(crate) const VERIFY_ALL: &str = "Read every byte as well";
    pub(crate) const VERIFY_SLICE: &str = "Read the n-th of t parts, for example 1/7 today and 2/7 tomorrow";
    pub(crate) const STATS: &str = "Show sizes and counts of the repository";
    pub(crate) const KEY: &str = "Look at the keys of the repository";
    pub(crate) const KEY_LS: &str = "List the keys that open it";
    pub(crate) const UNLOCK: &str = "Remove the lock that another box left behind";
    pub(crate) const GENERATE: &str = "Write man pages or shell completions";
    pub(crate) const GENERATE_MAN: &str = "Manual page on stdout, or one page per verb into a folder";
    pub(crate) const GENERATE_MAN_OUT: &str = "Write one page per verb into this folder";
    pub(crate) const GENERATE_COMPLETIONS: &str = "Completions on stdout";
}

pub(crate) const NO_REPO: &str = "no repository is named";
pub(crate) const NO_REPO_HINT: &str = "give -r DIR, or set MAILKEEP_REPO or `repo` in the config file";
pub(crate) const KEY_MISSING_HINT: &str =
    "give the box key or the recovery key with --key-file FILE, or plug the disk into the box that made it";
pub(crate) const KEY_BAD_HINT: &str = "an age identity is expected: one line AGE-SECRET-KEY-1…";
pub(crate) const INTERRUPTED: &str = "interrupted";
pub(crate) const STOPPING: &str = "stopping; once more to stop at once";
pub(crate) const NOTHING_SEALED_HINT: &str = "the repository is sound; run it again to go on";
pub(crate) const RESTORE_AGAIN_HINT: &str =
    "run it again with --overwrite if-changed to go on where it stopped";
pub(crate) const SLICE_FORM: &str = "a slice is written n/t with 1 ≤ n ≤ t ≤ 65535, as 2/7";
pub(crate) const DAMAGE_HINT: &str =
    "use another disk of the set for what is named above, and replace this one";

/// What is in a new key file beside the key.
pub(crate) const KEY_FILE_HEAD: &str = "\
# Mailkeep box key. It opens every repository that was made with it: keep it secret, keep a copy.
";

/// What is in a recovery file beside the key.
pub(crate) fn recovery_file(label: &str, repository: &str, key: &str) -> String {
    format!(
        "# Mailkeep recovery key of the disk \"{label}\" (repository {repository}).\n\
         # Keep it apart from the box and from the disk. To use it: mailkeep --key-file THIS-FILE -r DISK snapshots\n\
         {key}\n"
    )
}

/// How the recovery key is shown, once.
pub(crate) fn recovery_shown(key: &str) -> String {
    format!(
        "\nRecovery key: it opens this disk when the box is lost. It is shown this once and kept nowhere.\n\
         Print it or write it down, and keep it apart from box and disk:\n\n    {key}\n\n\
         To use it, put the line into a file and give that with --key-file."
    )
}

pub(crate) fn key_file_open_to_others(path: &str, mode: u32) -> String {
    format!("the key file {path} can be read by other users (mode {mode:o}); run `chmod 600 {path}`")
}

pub(crate) fn see_help(verb: Option<&str>) -> String {
    match verb {
        Some(verb) => format!("see `mailkeep {verb} --help`"),
        None => "see `mailkeep --help`".to_owned(),
    }
}
