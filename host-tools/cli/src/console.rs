//! Everything that is written: results on stdout, trouble and progress on stderr, in words or as JSON lines.
//!
//! Shared by all threads. In JSON mode an error is an object on stdout and also one line on stderr.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mailkeep_restorer::path;
use serde::Serialize;

use crate::args::Global;
use crate::exit::Failure;
use crate::progress::{Gauge, Reading};
use crate::text;

/// Where all output goes.
pub(crate) struct Console {
    /// JSON lines instead of words.
    pub(crate) json: bool,
    quiet: bool,
    verbose: u8,
    /// Results and progress go to a terminal both.
    shares_a_terminal: bool,
    out: Mutex<BufWriter<Stdout>>,
    gauge: Mutex<Gauge>,
    problems: AtomicU64,
    damage: AtomicU64,
    covered: AtomicU64,
}

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As any other.
    Plain,
    /// A heading.
    Strong,
    /// Added, whole.
    Good,
    /// Removed, damaged.
    Bad,
}

/// Whether a terminal may be given colours: <https://no-color.org>.
pub(crate) fn colour_is_wanted() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    message_type: &'static str,
    what: &'a str,
    path: Option<&'a str>,
    hint: Option<&'a str>,
}

impl Console {
    /// Output as the global flags ask for it.
    pub(crate) fn new(global: &Global) -> Self {
        let gauge = if global.no_progress || (global.quiet && !global.json) {
            Gauge::none()
        } else if global.json {
            Gauge::lines()
        } else if io::stderr().is_terminal() {
            Gauge::bar()
        } else {
            Gauge::none()
        };
        Console {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            shares_a_terminal: gauge.is_bar() && io::stdout().is_terminal(),
            out: Mutex::new(BufWriter::new(io::stdout())),
            gauge: Mutex::new(gauge),
            problems: AtomicU64::new(0),
            damage: AtomicU64::new(0),
            covered: AtomicU64::new(0),
        }
    }

    /// Whether results go to a person at a terminal.
    pub(crate) fn at_a_terminal(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// Whether they may be in colour.
    pub(crate) fn in_colour(&self) -> bool {
        self.at_a_terminal() && colour_is_wanted()
    }

    /// Whether more than usual is wanted.
    pub(crate) fn verbose(&self) -> bool {
        self.verbose > 0
    }

    /// Writes a line of the result.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        self.written(|out| writeln!(out, "{line}"))
    }

    /// On a terminal the progress bar goes out of the way of what is written, and that is not held back: the bar comes again
    /// below it.
    fn written(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> Result<(), Failure> {
        if !self.shares_a_terminal {
            return Ok(write(&mut self.out())?);
        }
        let mut result = Ok(());
        self.gauge().around(|| {
            let mut out = self.out();
            result = write(&mut out).and_then(|()| out.flush());
        });
        Ok(result?)
    }

    /// Writes a heading of the result.
    pub(crate) fn heading(&self, line: &str) -> Result<(), Failure> {
        self.toned(Tone::Strong, line)
    }

    /// Writes a line of the result in a tone, which only a terminal shows: nothing is said by it that is not said in words.
    pub(crate) fn toned(&self, tone: Tone, line: &str) -> Result<(), Failure> {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Plain => return self.line(line),
        };
        if self.in_colour() { self.line(&format!("\x1b[{code}m{line}\x1b[0m")) } else { self.line(line) }
    }

    /// Writes text of the result as it is.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.written(|out| out.write_all(bytes))
    }

    /// Writes a line that is a courtesy rather than the result.
    pub(crate) fn say(&self, line: &str) -> Result<(), Failure> {
        if self.quiet || self.json { Ok(()) } else { self.line(line) }
    }

    /// Writes an object of the result.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(io::Error::from)?;
        self.line(&line)
    }

    /// Writes a courtesy on stderr.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.stderr(line);
        }
    }

    /// Something could not be done; the work goes on.
    pub(crate) fn problem(&self, path: &str, what: &str, damage: bool) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        self.damage.fetch_add(damage.into(), Ordering::Relaxed);
        self.trouble(path, what);
    }

    /// Something is damaged, but a copy stands in for it: told like a problem, but nothing is missing from the result.
    pub(crate) fn covered(&self, path: &str, what: &str) {
        self.covered.fetch_add(1, Ordering::Relaxed);
        self.trouble(path, what);
    }

    /// Something that is worth knowing and no trouble.
    pub(crate) fn remark(&self, path: &str, what: &str) {
        if self.json {
            let note = serde_json::json!({ "message_type": "note", "what": what, "path": path });
            // An output that is gone shows at the next line of the result.
            let _ = self.object(&note);
        }
        self.note(&format!("mailkeep: note: {path}: {what}"));
    }

    fn trouble(&self, path: &str, what: &str) {
        self.tell(what, Some(path).filter(|path| !path.is_empty()), None);
        if path.is_empty() {
            self.stderr(&format!("mailkeep: {what}"));
        } else {
            self.stderr(&format!("mailkeep: {path}: {what}"));
        }
    }

    /// Something is odd but nothing is missing.
    pub(crate) fn warning(&self, line: &str) {
        self.stderr(&format!("mailkeep: warning: {line}"));
    }

    /// How many problems there were.
    pub(crate) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// How many of them were damage.
    pub(crate) fn damage(&self) -> u64 {
        self.damage.load(Ordering::Relaxed)
    }

    /// How many things were damaged and covered by a copy.
    pub(crate) fn covered_count(&self) -> u64 {
        self.covered.load(Ordering::Relaxed)
    }

    /// Shows how far the work is.
    pub(crate) fn progress(&self, reading: &Reading) {
        let line = self.gauge().show(reading);
        if let Some(line) = line {
            // Nobody listening shows at the next line of the result.
            let mut out = self.out();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Takes the progress bar away.
    pub(crate) fn settle(&self) {
        self.gauge().clear();
    }

    /// Tells why the tool ends.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.settle();
        let Failure::Told { what, path, hint, .. } = failure else { return };
        self.tell(what, path.as_deref(), hint.as_deref());
        // Errors of the libraries name the command that helps in their text already.
        match hint.as_deref().filter(|hint| !what.contains(*hint)) {
            Some(hint) => self.stderr(&format!("mailkeep: {what}; {hint}")),
            None => self.stderr(&format!("mailkeep: {what}")),
        }
    }

    /// Tells that a signal ends the tool.
    pub(crate) fn interrupted(&self) {
        self.settle();
        self.tell(text::INTERRUPTED, None, None);
        self.stderr(&format!("mailkeep: {}", text::INTERRUPTED));
        let _ = self.flush();
    }

    /// Hands everything to whoever reads.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        Ok(self.out().flush()?)
    }

    /// The JSON object of an error; nothing in the other mode.
    fn tell(&self, what: &str, path: Option<&str>, hint: Option<&str>) {
        if self.json {
            let line = ErrorLine { message_type: "error", what, path, hint };
            // An output that is gone shows at the next line of the result.
            let _ = self.object(&line).and_then(|()| self.flush());
        }
    }

    /// One line, whatever paths and names are in it.
    fn stderr(&self, line: &str) {
        let line = path::show(line.as_bytes());
        self.gauge().around(|| {
            // There is nobody else to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    fn out(&self) -> MutexGuard<'_, BufWriter<Stdout>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge(&self) -> MutexGuard<'_, Gauge> {
        self.gauge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
