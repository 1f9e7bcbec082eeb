//! The status as Prometheus reads it (text format 0.0.4).

use std::fmt::Write;

use mailkeep_controller::Fault;

use crate::status::Status;

/// All metrics.
pub fn render(status: &Status) -> String {
    let mut out = String::new();
    let mut one = |name: &str, help: &str, value: Option<i64>| {
        if let Some(value) = value {
            head(&mut out, name, help);
            let _ = writeln!(out, "mailkeep_{name} {value}");
        }
    };
    one("up", "The box runs.", Some(1));
    one(
        "last_success_timestamp_seconds",
        "The newest backup that was read back and found good.",
        status.last_proven,
    );
    one("last_backup_good", "The last backup that ended was good.", Some(i64::from(status.last_good)));
    one("overdue", "There was no good backup for too long.", Some(i64::from(status.overdue)));
    one("backup_owed", "A backup is wanted or under way.", Some(i64::from(status.backup_owed)));
    one("next_backup_timestamp_seconds", "When the next backup begins by itself.", status.next_backup);
    let job = status.job.as_ref();
    one("job_running", "A backup or restore runs.", Some(i64::from(job.is_some())));
    one("mail_stopped", "Mail is stopped now.", Some(i64::from(job.is_some_and(|job| job.mail_stopped))));
    one("clock_trusted", "The clock of the box can be right.", Some(i64::from(status.clock_trusted)));
    let due = status.bring.as_ref().is_some_and(|bring| bring.due);
    one("disk_swap_due", "Another disk of the set is to be put in.", Some(i64::from(due)));

    head(&mut out, "fault", "Trouble: 2 new, 1 acknowledged, 0 none.");
    for fault in Fault::ALL {
        let found = status.faults.iter().find(|found| found.fault == fault.word());
        let value = found.map_or(0, |found| 1 + i64::from(found.new));
        let _ = writeln!(out, "mailkeep_fault{{fault=\"{}\"}} {value}", fault.word());
    }
    type Value = fn(&crate::status::MemberStatus) -> Option<i64>;
    let of_disks: [(&str, &str, Value); 8] = [
        ("disk_in_the_box", "The disk is in the slot.", |disk| Some(i64::from(disk.in_the_box))),
        ("disk_generation", "Generation of its newest snapshot.", |disk| bounded(disk.member.generation)),
        ("disk_seen_timestamp_seconds", "It was in the box last.", |disk| disk.member.seen),
        ("disk_proven_timestamp_seconds", "Its newest good backup.", |disk| disk.member.proven),
        ("disk_size_bytes", "Its size.", |disk| disk.member.size_bytes.and_then(bounded)),
        ("disk_free_bytes", "The room that was left.", |disk| disk.member.free_bytes.and_then(bounded)),
        ("disk_written_bytes", "What backups have written to it.", |disk| bounded(disk.member.written_bytes)),
        ("disk_doubt", "It is not as the box left it.", |disk| Some(i64::from(disk.member.doubt.is_some()))),
    ];
    for (name, help, value) in of_disks {
        head(&mut out, name, help);
        for disk in &status.set {
            if let Some(value) = value(disk) {
                let (id, label) = (escaped(&disk.id), escaped(&disk.member.label));
                let _ = writeln!(out, "mailkeep_{name}{{disk=\"{label}\",id=\"{id}\"}} {value}");
            }
        }
    }
    out
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP mailkeep_{name} {help}\n# TYPE mailkeep_{name} gauge");
}

fn bounded(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

/// A label's value: a disk is named by whoever made it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
