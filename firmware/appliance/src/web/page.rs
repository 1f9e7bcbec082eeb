//! The status page: made whole for each request, without a script; it loads itself again every few seconds. All text that
//! did not stand in this file goes through `escaped`.

use std::fmt::Write;

use chrono::{DateTime, Local};

use crate::disk_set::days_until;
use crate::status::Status;
use crate::words;

const HEAD: &str = include_str!("page.html");

/// The page.
pub fn render(status: &Status) -> String {
    let mut out = HEAD.replace("{name}", &escaped(&status.name));
    lamps(&mut out, status);
    faults(&mut out, status);
    now(&mut out, status);
    set(&mut out, status);
    news(&mut out, status);
    let _ = write!(
        out,
        "<footer>mailkeepd {} · {}</footer></main></body></html>",
        status.version,
        date(status.time)
    );
    out
}

fn lamps(out: &mut String, status: &Status) {
    out.push_str("<section class=panel>");
    for lamp in &status.lamps {
        let (name, pattern, meaning) = (lamp.lamp, lamp.pattern, escaped(lamp.meaning));
        let meaning = if meaning.is_empty() { "dark" } else { &meaning };
        let _ = write!(
            out,
            "<div class=lamp><i class=\"{name} {pattern}\" role=img aria-label=\"{name} {pattern}\"></i>\
             <b>{}</b><span>{meaning}</span></div>",
            name.to_uppercase()
        );
    }
    out.push_str("</section>");
}

fn faults(out: &mut String, status: &Status) {
    for fault in &status.faults {
        let class = if fault.new { "fault" } else { "fault seen" };
        let since =
            fault.since.map(|since| format!(" <small>since {}</small>", date(since))).unwrap_or_default();
        let _ = write!(out, "<p class=\"{class}\">{}{since}</p>", escaped(fault.words));
    }
    for disk in status.set.iter().filter(|disk| disk.member.doubt.is_some()) {
        let doubt = disk.member.doubt.as_deref().unwrap_or_default();
        let _ = write!(out, "<p class=fault>{}: {}</p>", escaped(&disk.member.label), escaped(doubt));
    }
}

fn now(out: &mut String, status: &Status) {
    out.push_str("<section><h2>Backup</h2><dl>");
    let mut row = |term: &str, text: &str| {
        let _ = write!(out, "<dt>{term}</dt><dd>{}</dd>", escaped(text));
    };
    if let Some(job) = &status.job {
        let stopped = if job.mail_stopped { "; mail is stopped" } else { "" };
        row("now", &format!("{} runs: {}{stopped}", job.kind, job.phase));
        if !job.progress.is_empty() {
            row("progress", &job.progress);
        }
    } else if status.backup_owed {
        row("now", "a backup waits for a disk of this box");
    } else {
        row("now", "nothing runs");
    }
    let last = status.last_proven.map_or("never".to_owned(), |last| {
        let days = -days_until(last, status.time);
        let age = match days {
            ..=1 => "less than a day ago".to_owned(),
            days => format!("{} days ago", days - 1),
        };
        format!("{}, {age}", date(last))
    });
    row("last good", &last);
    let next = status.next_backup.map_or("by button".to_owned(), date);
    row("next", &next);
    let label = status.disk.label.as_deref().map(|label| format!("{label}: ")).unwrap_or_default();
    let safe = if status.disk.safe_to_remove { ", safe to remove" } else { "" };
    row("disk", &format!("{label}{}{safe}", status.disk.state));
    if let Some(bring) = &status.bring {
        row("bring", &bring.words);
    }
    if !status.clock_trusted {
        row("clock", "not set: nothing begins by itself and nothing is removed");
    }
    out.push_str("</dl></section>");
}

fn set(out: &mut String, status: &Status) {
    if status.set.is_empty() {
        return;
    }
    out.push_str("<section><h2>Disks</h2><div class=wide><table><tr><th>disk<th>where<th>last good<th>snapshot<th>room</tr>");
    for disk in &status.set {
        let member = &disk.member;
        let place = match (disk.in_the_box, member.seen) {
            (true, _) => "in the box".to_owned(),
            (false, Some(seen)) => format!("away since {}", date(seen)),
            (false, None) => "away".to_owned(),
        };
        let proven = member.proven.map_or("never".to_owned(), date);
        let room = match (member.size_bytes, member.free_bytes) {
            (Some(size), Some(free)) if size > 0 => {
                let used = 100 - (u128::from(free) * 100 / u128::from(size)).min(100);
                format!(
                    "<meter min=0 max=100 high=90 value={used}></meter> {} free of {}",
                    words::size(free),
                    words::size(size)
                )
            }
            _ => String::new(),
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{place}<td>{proven}<td>{}<td>{room}</tr>",
            escaped(&member.label),
            member.generation
        );
    }
    out.push_str("</table></div></section>");
}

fn news(out: &mut String, status: &Status) {
    if status.news.is_empty() {
        return;
    }
    out.push_str("<section><h2>What happened</h2><ul>");
    for line in status.news.iter().rev() {
        let _ = write!(out, "<li><small>{}</small> {}</li>", date(line.time), escaped(&line.words));
    }
    out.push_str("</ul></section>");
}

fn date(seconds: i64) -> String {
    let date = DateTime::from_timestamp(seconds, 0).map(|date| date.with_timezone(&Local));
    date.map(|date| date.format("%a %-d %b %Y, %H:%M").to_string()).unwrap_or_default()
}

/// Text in HTML, also in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_named_by_an_attacker_is_only_text() {
        assert_eq!(escaped("<b a='\"&\"'>"), "&lt;b a=&#39;&quot;&amp;&quot;&#39;&gt;");
    }
}
