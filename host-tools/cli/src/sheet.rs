//! The sheet of paper with the recovery key: the key in groups and as a code, what it is for, and what to do.

use std::path::Path;

use mailkeep_repository::RescueProgram;
use mailkeep_repository::format::typed;

use crate::code::{Code, Ink};
use crate::text::rescue::sheet as words;

/// Groups in a row: what the eye keeps while the hand types.
const ROW: usize = 5;

/// What stands on it.
pub(crate) struct Sheet<'a> {
    pub(crate) label: &'a str,
    pub(crate) repository: &'a str,
    /// The day on which the key was made.
    pub(crate) date: &'a str,
    pub(crate) key: &'a str,
    /// What the disk carries.
    pub(crate) programs: &'a [RescueProgram],
}

impl Sheet<'_> {
    /// As the name of the file asks for: a page for a browser, or plain text.
    pub(crate) fn for_file(&self, path: &Path) -> String {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if ["html", "htm"].iter().any(|html| extension.eq_ignore_ascii_case(html)) {
            self.html()
        } else {
            self.text()
        }
    }

    fn text(&self) -> String {
        let mut lines =
            vec![words::TITLE.to_owned(), "=".repeat(words::TITLE.len()), words::SECRET.to_owned()];
        lines.push(String::new());
        for (name, value) in self.facts() {
            lines.push(format!("{name:12} {value}"));
        }
        lines.extend([String::new(), format!("{:12} {}", words::KEY, typed::PREFIX)]);
        lines.extend(rows(self.key).into_iter().map(|(name, groups)| format!("{name:16} {groups}")));
        lines.push(String::new());
        if let Some(code) = Code::of(self.key) {
            lines.extend(code.blocks(Ink::Dark));
        }
        lines.extend(words::STEPS.map(str::to_owned));
        lines.extend([String::new(), format!("{}:", words::SUMS)]);
        lines.extend(self.sums());
        lines.push(String::new());
        lines.join("\n")
    }

    fn html(&self) -> String {
        let facts: String = self
            .facts()
            .iter()
            .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value)))
            .collect();
        let key: String = rows(self.key)
            .iter()
            .map(|(name, groups)| {
                format!("<tr><th>{name}</th><td><code>{}</code></td></tr>\n", escaped(groups))
            })
            .collect();
        let steps: String = words::STEPS.map(|step| format!("<p>{}</p>\n", escaped(step))).concat();
        let sums: String =
            self.sums().iter().map(|sum| format!("<br><code>{}</code>", escaped(sum))).collect();
        let picture = Code::of(self.key).map_or_else(String::new, |code| code.svg());
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <style>body{{font:12pt sans-serif;margin:2em;max-width:42em}}code{{font:14pt monospace}}\
             th{{text-align:left;padding-right:2em;font-weight:normal}}svg{{width:6cm;height:6cm}}\
             .sums code{{font-size:8pt}}</style></head><body>\n<h1>{title}</h1>\n<p><b>{secret}</b></p>\n\
             <table>\n{facts}<tr><th>{name}</th><td><code>{prefix}</code></td></tr>\n{key}</table>\n{picture}\n{steps}\
             <p class=\"sums\">{sums_are}:{sums}</p>\n</body></html>\n",
            title = words::TITLE,
            secret = words::SECRET,
            name = words::KEY,
            prefix = typed::PREFIX,
            sums_are = words::SUMS,
        )
    }

    fn facts(&self) -> [(&'static str, String); 3] {
        // What was typed as a label may hold anything.
        let label =
            self.label.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
        [
            (words::DISK, label),
            (words::REPOSITORY, self.repository.to_owned()),
            (words::DATE, self.date.to_owned()),
        ]
    }

    fn sums(&self) -> Vec<String> {
        if self.programs.is_empty() {
            return vec![words::NO_SUMS.to_owned()];
        }
        self.programs.iter().map(|program| format!("{}  {}", program.sum(), program.path())).collect()
    }
}

/// The groups of a key in rows, each with the numbers of its groups.
pub(crate) fn rows(key: &str) -> Vec<(String, String)> {
    let groups = typed::groups(key);
    let row = |(number, row): (usize, &[&str])| {
        (words::row(number * ROW + 1, number * ROW + row.len()), row.join(" "))
    };
    groups.chunks(ROW).enumerate().map(row).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::tests::scanned;
    use mailkeep_repository::format::Identity;

    #[test]
    fn what_is_printed_can_be_typed_and_scanned() {
        let key = Identity::generate().to_text();
        let sheet = Sheet {
            label: "disk <A>\u{1b}[2J",
            repository: "0123",
            date: "2026-11-23",
            key: &key,
            programs: &[],
        };
        let text = sheet.for_file(Path::new("sheet.txt"));
        assert!(text.lines().all(|line| line.chars().count() < 120), "{text}");
        let groups: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("groups ").and_then(|rest| rest.get(9..)))
            .map(|row| format!("{}\n", row.to_lowercase()))
            .collect();
        assert_eq!(*Identity::parse(&groups).unwrap().to_text(), *key, "{text}");
        let code: Vec<String> = text
            .lines()
            .filter(|line| line.chars().count() == 45 || line.contains('█'))
            .map(str::to_owned)
            .collect();
        assert_eq!(scanned(&code, Ink::Dark), *key);
        let html = sheet.for_file(Path::new("sheet.HTML"));
        assert!(
            html.starts_with("<!DOCTYPE html>") && html.contains("disk &lt;A&gt;") && html.contains("<svg")
        );
        for page in [&text, &html] {
            assert!(!page.contains('\u{1b}') && page.contains("0123") && page.contains("2026-11-23"));
            assert!(words::STEPS.iter().all(|step| page.contains(step)));
        }
    }
}
