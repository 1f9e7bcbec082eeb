//! Names of owners: so that a restore elsewhere can give files to the user of that name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mailkeep_mail::source::Argv;

use crate::command;
use crate::limits;

/// Numbers with their names.
pub(crate) type Names = Vec<(u32, String)>;

/// The names of users and groups; numbers without a name are left out.
pub(crate) fn names(users: &BTreeSet<u32>, groups: &BTreeSet<u32>) -> (Names, Names) {
    (of("passwd", "/etc/passwd", users), of("group", "/etc/group", groups))
}

/// Numbers of a snapshot that the same names have another number for on this machine.
pub(crate) fn here(database: &str, names: &Names) -> HashMap<u32, u32> {
    let local = std::fs::read(format!("/etc/{database}")).unwrap_or_default();
    let local = String::from_utf8_lossy(&local);
    let find = |name: &str| {
        let number = |line: &str| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse::<u32>().ok()).flatten()
        };
        // A name that begins with a dash would be taken for an option; no system has such accounts.
        local.lines().find_map(number).or_else(|| {
            let asked = !name.is_empty() && !name.starts_with('-');
            let argv = asked.then(|| Argv::new("getent", [database, name]))?;
            let done = command::run(&argv, limits::ASK_BOUND, &|| false).ok()?;
            done.output.lines().find_map(number)
        })
    };
    let pairs = names.iter().filter_map(|(number, name)| Some((*number, find(name)?)));
    pairs.filter(|(number, here)| number != here).collect()
}

/// The numbers of a user and of his group.
pub(crate) fn account(name: &str) -> Option<(u32, u32)> {
    let numbers = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_his = fields.first() == Some(&name);
        is_his.then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))).flatten()
    };
    let local = std::fs::read("/etc/passwd").unwrap_or_default();
    String::from_utf8_lossy(&local).lines().find_map(numbers).or_else(|| {
        let argv =
            (!name.is_empty() && !name.starts_with('-')).then(|| Argv::new("getent", ["passwd", name]))?;
        let done = command::run(&argv, limits::ASK_BOUND, &|| false).ok()?;
        done.output.lines().find_map(numbers)
    })
}

/// The file first; what it does not have may come from a directory service.
fn of(database: &str, file: &str, wanted: &BTreeSet<u32>) -> Names {
    let mut found = BTreeMap::new();
    if let Ok(text) = std::fs::read(file) {
        collect(&String::from_utf8_lossy(&text), wanted, &mut found);
    }
    let rest: Vec<String> = wanted.iter().filter(|id| !found.contains_key(id)).map(u32::to_string).collect();
    for some in rest.chunks(500) {
        let words = std::iter::once(database.to_owned()).chain(some.iter().cloned());
        if let Ok(done) = command::run(&Argv::new("getent", words), limits::ASK_BOUND, &|| false) {
            collect(&done.output, wanted, &mut found);
        }
    }
    found.into_iter().collect()
}

/// Lines of passwd(5) or group(5): the name first, the number third.
fn collect(text: &str, wanted: &BTreeSet<u32>, found: &mut BTreeMap<u32, String>) {
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, id) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok()));
        if let (Some(name), Some(id)) = (name, id) {
            if wanted.contains(&id) && !name.is_empty() {
                found.entry(id).or_insert_with(|| name.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let mut found = BTreeMap::new();
        let text = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\ncyrus:x:76:8::/:\nbroken\nodd:x:y\n";
        collect(text, &BTreeSet::from([0, 76, 99]), &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(0, "root".to_owned()), (76, "cyrus".to_owned())]);
    }

    #[test]
    fn root_has_a_name_here() {
        let (users, groups) = names(&BTreeSet::from([0, 3_999_999_999]), &BTreeSet::from([0]));
        assert_eq!((users, groups), (vec![(0, "root".to_owned())], vec![(0, "root".to_owned())]));
    }
}
