//! `status`: how the box stands, as it says itself; and the two things that a person decides about a disk of the set.

use serde_json::Value;

use crate::App;
use crate::args::Status;
use crate::console::Tone;
use crate::exit::{self, Failure};
use crate::table::{Align, Table};
use crate::text::the_box as text;
use crate::the_box::TheBox;
use crate::units;

pub(crate) fn run(app: &App, args: &Status) -> Result<u8, Failure> {
    let the_box = TheBox::find(&args.at)?;
    for (disk, deed) in [(&args.trust, "trust"), (&args.forget, "forget")] {
        if let Some(disk) = disk {
            let id = id_of(&the_box.status()?, disk)?;
            app.console.note(&the_box.act(&format!("/api/v1/disks/{id}/{deed}"))?);
        }
    }
    let mut status = the_box.status()?;
    let faults = status["faults"].as_array().is_some_and(|faults| !faults.is_empty());
    let code = if faults || status["overdue"] == true { exit::PARTLY } else { exit::DONE };
    if app.console.json {
        status["message_type"] = "box_status".into();
        app.console.object(&status)?;
    } else {
        print(app, &status)?;
    }
    Ok(code)
}

/// The id of a disk of the set, by its name or id.
fn id_of(status: &Value, wanted: &str) -> Result<String, Failure> {
    let none = || Failure::new(exit::ABSENT, text::no_such_disk(wanted));
    let set = status["set"].as_array().ok_or_else(none)?;
    let is_it = |disk: &&Value| disk["id"] == wanted || disk["label"] == wanted;
    let id = set.iter().find(is_it).and_then(|disk| disk["id"].as_str()).ok_or_else(none)?;
    // It becomes part of a path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(none());
    }
    Ok(id.to_owned())
}

fn print(app: &App, status: &Value) -> Result<(), Failure> {
    let console = &app.console;
    console.heading(&format!("{}, mailkeepd {}", words(&status["name"]), words(&status["version"])))?;
    for lamp in status["lamps"].as_array().into_iter().flatten() {
        let (name, pattern) = (words(&lamp["lamp"]).to_uppercase(), words(&lamp["pattern"]));
        console.line(format!("  {name:<6}  {pattern:<6}  {}", words(&lamp["meaning"])).trim_end())?;
    }
    console.line("")?;
    for fault in status["faults"].as_array().into_iter().flatten() {
        let since = fault["since"].as_i64().map(|since| format!(" (since {})", units::local(since)));
        let seen = if fault["new"] == true { "FAULT" } else { "fault, acknowledged" };
        console
            .toned(Tone::Bad, &format!("{seen}: {}{}", words(&fault["words"]), since.unwrap_or_default()))?;
    }
    for disk in status["set"].as_array().into_iter().flatten().filter(|disk| disk["doubt"].is_string()) {
        let label = words(&disk["label"]);
        console.toned(Tone::Bad, &format!("{label}: {}", words(&disk["doubt"])))?;
        console.line(&format!("  if it is right as it is: mailkeep status --trust \"{label}\""))?;
    }
    let row = |name: &str, text: &str| console.line(&format!("{name:<17} {text}"));
    let job = &status["job"];
    if job.is_object() {
        let stopped = if job["mail_stopped"] == true { ", mail is stopped" } else { "" };
        row("Now", &format!("{} runs: {}{stopped}", words(&job["kind"]), words(&job["phase"])))?;
        if job["progress"] != "" {
            row("", &words(&job["progress"]))?;
        }
    } else if status["backup_owed"] == true {
        row("Now", "a backup waits for a disk of this box")?;
    }
    let date = |value: &Value, none: &str| value.as_i64().map_or_else(|| none.to_owned(), units::local);
    row("Last good backup", &date(&status["last_proven"], "never"))?;
    row("Next backup", &date(&status["next_backup"], "by button"))?;
    let disk = &status["disk"];
    let label = disk["label"].as_str().map(|_| format!("{}: ", words(&disk["label"]))).unwrap_or_default();
    let safe = if disk["safe_to_remove"] == true { ", safe to remove" } else { "" };
    row("Disk in the box", &format!("{label}{}{safe}", words(&disk["state"])))?;
    if status["bring"].is_object() {
        row("Then", &words(&status["bring"]["words"]))?;
    }
    if status["clock_trusted"] == false {
        row("Clock", "not set: nothing begins by itself")?;
    }
    let set = status["set"].as_array().filter(|set| !set.is_empty());
    let Some(set) = set else { return Ok(()) };
    let mut table = Table::new(
        text::COLUMNS,
        [Align::Left, Align::Left, Align::Left, Align::Right, Align::Right, Align::Left],
    );
    for disk in set {
        let place = match (disk["in_the_box"] == true, disk["seen"].as_i64()) {
            (true, _) => "in the box".to_owned(),
            (false, Some(seen)) => format!("away since {}", units::day(seen)),
            (false, None) => "away".to_owned(),
        };
        table.row([
            words(&disk["label"]),
            place,
            date(&disk["proven"], "never"),
            disk["generation"].as_u64().unwrap_or(0).to_string(),
            disk["free_bytes"].as_u64().map(units::size).unwrap_or_default(),
            words(&disk["id"]).chars().take(8).collect(),
        ]);
    }
    console.line("")?;
    for (number, line) in table.lines().enumerate() {
        if number == 0 { console.heading(&line)? } else { console.line(&line)? }
    }
    Ok(())
}

/// Text of the box, which may come from a disk: nothing in it may steer the terminal.
fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_name_or_id_and_only_a_plain_id_becomes_a_path() {
        let status = serde_json::json!({ "set": [
            { "id": "a1", "label": "disk A" }, { "id": "../x", "label": "evil" }
        ] });
        assert_eq!(id_of(&status, "disk A").unwrap(), "a1");
        assert_eq!(id_of(&status, "a1").unwrap(), "a1");
        for bad in ["evil", "disk B", ""] {
            assert_eq!(id_of(&status, bad).unwrap_err().code(), exit::ABSENT, "{bad}");
        }
        assert_eq!(words(&"a\u{1b}[2Jb".into()), "a[2Jb");
    }
}
