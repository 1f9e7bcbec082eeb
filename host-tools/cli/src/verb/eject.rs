//! `eject`: the disk in the box is flushed and unmounted; returns when it may be taken out.

use std::time::Duration;

use serde_json::Value;

use crate::App;
use crate::args::Eject;
use crate::exit::{self, Failure};
use crate::text::the_box as text;
use crate::the_box::TheBox;

/// How often the box is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn run(app: &App, args: &Eject) -> Result<u8, Failure> {
    let the_box = TheBox::find(&args.at)?;
    let status = the_box.status()?;
    let disk = &status["disk"];
    let label = disk["label"].as_str();
    if let Some(wanted) = args.disk.as_deref() {
        let is_it = label == Some(wanted) || disk["id"].as_str() == Some(wanted);
        if !is_it {
            return Err(Failure::new(exit::ABSENT, text::other_disk(wanted, label)));
        }
    }
    the_box.act("/api/v1/eject")?;
    let disk = loop {
        let status = the_box.status()?;
        let disk = &status["disk"];
        if disk["safe_to_remove"] == true || disk["state"] == "absent" {
            break disk.clone();
        }
        let under_way = disk["leaving"] == true || disk["state"] == "looking";
        if !under_way {
            return Err(Failure::new(exit::FAILED, text::not_ejected(trouble(&status))));
        }
        std::thread::sleep(ASK_EVERY);
    };
    if app.console.json {
        let done = serde_json::json!({ "message_type": "summary", "disk": disk });
        app.console.object(&done)?;
    } else {
        app.console.say(&text::safe(label))?;
    }
    Ok(exit::DONE)
}

/// Why the disk stays mounted.
fn trouble(status: &Value) -> &str {
    let faults = status["faults"].as_array();
    let found = faults.and_then(|faults| faults.iter().find(|fault| fault["fault"] == "eject-failed"));
    found.and_then(|fault| fault["words"].as_str()).unwrap_or(text::IN_USE)
}
