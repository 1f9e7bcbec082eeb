//! `verify`: whether the repository is whole, by structure or by every byte, and whether the mail in it is.

mod mail;

use mailkeep_repository::{Machine, NextSlice, ReadData, VerifyOptions, limits, verify, verify_next};
use serde::Serialize;

use crate::App;
use crate::args::Verify;
use crate::console::Tone;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::{repo, signal, text};

/// More parts than this are less than a pack each.
const PARTS_MAX: u32 = 65_535;

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    snapshots: u64,
    directories: u64,
    packs: u64,
    blocks: u64,
    chunks: u64,
    bytes: u64,
    problems: u64,
    damaged: bool,
    /// Something cannot be read from this disk any more.
    lost: bool,
    /// What the mail check of the snapshots came to, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<mail::Sums>,
}

pub(crate) fn run(app: &App, args: &Verify) -> Result<u8, Failure> {
    let read = match &args.read_data_slice {
        Some(slice) => parse_slice(slice)?,
        None if args.read_data => ReadData::All,
        None => ReadData::Structure,
    };
    if args.read_data_next.is_some_and(|of| !(1..=limits::SLICES_MAX).contains(&of)) {
        let what = format!("`{}` is no number of parts", args.read_data_next.unwrap_or(0));
        return Err(Failure::new(exit::USAGE, what).hint(text::NEXT_FORM));
    }
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    let repository = repo::open(app)?;
    let report = match args.read_data_next {
        Some(of) => {
            verify_next(&repository, &NextSlice { of, snapshot: None, machine: Machine::this() }, &ear)?
        }
        None => verify(&repository, VerifyOptions { read }, &ear)?,
    };
    let mail = if args.mail { Some(mail::check(app, &repository, &ear)?) } else { None };
    app.console.settle();
    // Also what was found while the repository was opened.
    let problems = app.console.problems() + app.console.covered_count();
    let damaged = report.damaged() || problems > 0;
    if app.console.json {
        app.console.object(&SummaryLine {
            message_type: "summary",
            snapshots: report.snapshots,
            directories: report.directories,
            packs: report.packs,
            blocks: report.blocks,
            chunks: report.chunks,
            bytes: report.bytes,
            problems,
            damaged,
            lost: report.lost(),
            mail,
        })?;
    } else {
        let whole = read != ReadData::Structure || args.read_data_next.is_some();
        let read = whole.then_some((report.bytes, report.chunks));
        let looked = text::report::looked_at(report.snapshots, report.directories, report.packs, read);
        app.console.say(&looked)?;
        if let Some(mail) = &mail {
            app.console.say(&text::report::mail_looked_at(
                mail.snapshots,
                mail.mailboxes,
                mail.messages,
                mail.without,
            ))?;
        }
        let verdict = match mail.as_ref().filter(|mail| mail.problems > 0 && !report.lost()) {
            Some(mail) => text::report::mail_verdict(mail.problems),
            None => text::report::verdict(damaged, report.lost(), problems),
        };
        let tone = if damaged { Tone::Bad } else { Tone::Good };
        app.console.toned(tone, &verdict)?;
    }
    Ok(if damaged { exit::DAMAGED } else { exit::DONE })
}

fn parse_slice(text: &str) -> Result<ReadData, Failure> {
    let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((part, of)) if (1..=of).contains(&part) && of <= PARTS_MAX => Ok(ReadData::Slice { part, of }),
        _ => Err(Failure::new(exit::USAGE, format!("`{text}` is no slice")).hint(text::SLICE_FORM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_parts_of_a_whole() {
        assert_eq!(parse_slice("2/7").unwrap(), ReadData::Slice { part: 2, of: 7 });
        assert_eq!(parse_slice("1/1").unwrap(), ReadData::Slice { part: 1, of: 1 });
        for bad in ["", "1", "0/7", "8/7", "1/0", "-1/7", "a/b", "1/7/2", "1/65536"] {
            assert_eq!(parse_slice(bad).unwrap_err().code(), 64, "{bad}");
        }
    }
}
