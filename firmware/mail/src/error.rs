//! The one error type of this crate. Each text is one line: what failed, on what, what to do; the text of
//! an underlying error is left to `source()`.

use std::path::PathBuf;

/// What can go wrong when a source, a mail server's configuration or its files are read.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The source file is not valid TOML, or a value has the wrong type.
    #[error("{origin}{}: {problem}", at_line(*line))]
    SourceSyntax {
        /// The source file, as the caller named it.
        origin: String,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong there, in one line.
        problem: String,
    },
    /// The source file has a key that Mailkeep does not know.
    #[error("{origin}{}: unknown key `{key}` in {section}{}", at_line(*line), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The source file, as the caller named it.
        origin: String,
        /// The line, counted from 1, where it is known.
        line: Option<usize>,
        /// The section in brackets, or "the top level".
        section: String,
        /// The key that was found.
        key: String,
        /// The known key that is written most alike.
        nearest: Option<String>,
    },
    /// A value of the source file cannot be used.
    #[error("{origin}: {key}: {problem}")]
    BadValue {
        /// The source file, as the caller named it.
        origin: String,
        /// The key with its section, as `quiesce.deadline`.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The source names a mail system that this version does not serve.
    #[error("{origin}: system \"{system}\" is not served by this version; use \"cyrus\" or \"generic\"")]
    SystemNotServed {
        /// The source file, as the caller named it.
        origin: String,
        /// The system as written.
        system: String,
    },
    /// A file of the mail server's configuration cannot be read.
    #[error("cannot read the mail server's configuration {}", path.display())]
    ConfigRead {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of the mail server's configuration says something that Cyrus would not accept either.
    #[error("{}, line {line}: {problem}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The configuration as a whole lacks something or contradicts itself.
    #[error("{}: {problem}", path.display())]
    ConfigUnusable {
        /// The main file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No way was found to stop and start mail.
    #[error("no way to stop mail was found on the server: {looked_for}; {hint}")]
    NoRung {
        /// What was looked for and not found.
        looked_for: String,
        /// What to put into the source file.
        hint: String,
    },
    /// The exported mailbox list cannot be read.
    #[error("mailbox list, line {line}: {problem}")]
    MailboxList {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A cyrus.index, cyrus.header or similar file is damaged or of an unknown kind.
    #[error("{what} is damaged or of an unknown kind: {problem} (at byte {offset})")]
    Damaged {
        /// The kind of file.
        what: &'static str,
        /// Where reading stopped, in bytes from the start.
        offset: usize,
        /// What was found there.
        problem: String,
    },
}

fn at_line(line: Option<usize>) -> String {
    line.map(|n| format!(", line {n}")).unwrap_or_default()
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}
