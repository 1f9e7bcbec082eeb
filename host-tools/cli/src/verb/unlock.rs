//! `unlock`: removes what a box that is gone left behind.

use mailkeep_restorer::path;

use crate::App;
use crate::exit::{self, Failure};
use crate::text::report;
use crate::{repo, units};

pub(crate) fn run(app: &App) -> Result<u8, Failure> {
    let removed = repo::open(app)?.unlock()?;
    if app.console.json {
        let lease = removed.map(|lease| {
            serde_json::json!({
                "box": lease.box_id, "host": lease.host, "pid": lease.pid,
                "renewed": units::utc(lease.renewed.try_into().unwrap_or(i64::MAX)),
            })
        });
        app.console.object(&serde_json::json!({ "message_type": "summary", "removed": lease }))?;
        return Ok(exit::DONE);
    }
    match removed {
        Some(lease) => {
            let renewed = units::local(lease.renewed.try_into().unwrap_or(i64::MAX));
            app.console.say(&report::unlocked(&path::show(lease.to_string().as_bytes()), &renewed))?;
        }
        None => app.console.say(report::NO_LOCK)?,
    }
    Ok(exit::DONE)
}
