//! `ls`: a folder of a snapshot, or everything below it.

use std::os::unix::ffi::OsStrExt;

use mailkeep_restorer::{Found, Next, path, walk};

use crate::App;
use crate::args::Ls;
use crate::exit::{self, Failure};
use crate::nodes::{self, Names, NodeLine};
use crate::table::{Align, Table};
use crate::{repo, signal};

pub(crate) fn run(app: &App, args: &Ls) -> Result<u8, Failure> {
    signal::end_at_once(&app.console)?;
    let start = path::normalise(args.path.as_os_str().as_bytes())?;
    let (entry, view) = repo::view(app, &args.which)?;
    let names = Names::of(&entry.manifest);
    let node = view.lookup(&start).map_err(|error| repo::not_there(error, &view, &args.path))?;
    let object = |at: &[u8], node: &_| app.console.object(&NodeLine::new("node", at, node, &names));
    if args.recursive && node.is_directory() {
        let mut written = Ok(());
        walk(&view, &start, &mut |at, found| {
            written = match found {
                Found::Node(node) if app.console.json => object(at, node),
                Found::Node(node) => app.console.line(&row(nodes::cells(at, node, &names))),
                Found::Unreadable(error) => {
                    let damage = error.contents().is_some_and(|why| why.is_damage());
                    app.console.problem(&path::show(at), &exit::chain(error), damage);
                    Ok(())
                }
            };
            if written.is_ok() { Next::Descend } else { Next::Stop }
        })?;
        written?;
    } else {
        let mut table = table();
        let one = [node.clone()];
        let listing = if node.is_directory() { Some(view.list(&start, &node)?) } else { None };
        let all = listing.as_ref().map_or(&one[..], |listing| listing.as_slice());
        for node in all {
            let at = if listing.is_some() { path::join(&start, &node.name) } else { start.clone() };
            if app.console.json {
                object(&at, node)?;
            } else {
                table.row(nodes::cells(if listing.is_some() { &node.name } else { &at }, node, &names));
            }
        }
        for line in table.lines().skip(1) {
            app.console.line(&line)?;
        }
    }
    Ok(match (app.console.damage(), app.console.problems()) {
        (0, 0) => exit::DONE,
        (0, _) => exit::PARTLY,
        _ => exit::DAMAGED,
    })
}

/// Columns as `ls -l` has them.
pub(crate) fn table() -> Table {
    use Align::{Left, Right};
    Table::new([""; 6], [Left, Left, Left, Right, Left, Left])
}

/// One line of a listing whose widths are not known beforehand.
pub(crate) fn row([mode, user, group, size, time, name]: [String; 6]) -> String {
    format!("{mode:10}  {user:8}  {group:8}  {size:>9}  {time}  {name}")
}
