//! `rescue-kit`: README.txt and the programs that read this disk, on the disk.

use mailkeep_repository::{KitFile, Machine, kit, write_kit};
use serde::Serialize;

use crate::App;
use crate::args::RescueKit;
use crate::ear::Ear;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::rescue;
use crate::{kit as programs, repo, signal, units};

#[derive(Serialize)]
struct ProgramLine<'a> {
    message_type: &'static str,
    path: &'a str,
    bytes: u64,
    sha256: &'a str,
    whole: bool,
}

#[derive(Serialize)]
struct SummaryLine {
    message_type: &'static str,
    programs: usize,
    written: usize,
    damaged: usize,
}

pub(crate) fn run(app: &App, args: &RescueKit) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let ear = Ear::new(&app.console);
    if args.check {
        // Needs no key: nothing of it is trusted anyway.
        let files = kit(&*repo::storage(app)?)?;
        return tell(app, &files, None);
    }
    let programs = programs::programs(&args.programs)?;
    let repository = repo::open(app)?;
    let written = write_kit(&repository, &programs, &Machine::this(), &ear)?;
    programs::open_to_readers(app.options.repo()?);
    match written {
        Some(kit) => tell(app, &kit.files, Some(kit.written)),
        None => Ok(exit::PARTLY),
    }
}

fn tell(app: &App, files: &[KitFile], written: Option<usize>) -> Result<u8, Failure> {
    let damaged = files.iter().filter(|file| !file.whole).count();
    if app.console.json {
        for KitFile { path, length, sum, whole } in files {
            let line =
                ProgramLine { message_type: "program", path, bytes: *length, sha256: sum, whole: *whole };
            app.console.object(&line)?;
        }
        let programs = files.len();
        app.console.object(&SummaryLine {
            message_type: "summary",
            programs,
            written: written.unwrap_or(0),
            damaged,
        })?;
    } else {
        let mut table = Table::new(rescue::COLUMNS, [Align::Left, Align::Right, Align::Left, Align::Left]);
        for file in files {
            table.row([
                file.path.clone(),
                units::size(file.length),
                rescue::state(file).to_owned(),
                file.sum.clone(),
            ]);
        }
        if files.is_empty() {
            app.console.note(&format!("mailkeep: {}", rescue::NOT_ON_THE_DISK));
        } else {
            for line in table.lines() {
                app.console.line(&line)?;
            }
        }
        if let Some(written) = written {
            app.console.say(&rescue::written(written))?;
        }
    }
    if damaged > 0 {
        app.console.warning(&rescue::damaged(damaged));
        return Ok(exit::PARTLY);
    }
    Ok(exit::DONE)
}
