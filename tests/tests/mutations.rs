//! The list of mutations fits the code: every safeguard that it names stands where it says, once. That the tests notice
//! when one is taken out is shown by `make mutate`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use mailkeep_tests::mutations;

#[test]
fn every_safeguard_of_the_list_stands_once_in_its_file() {
    let list = mutations::read().unwrap();
    assert!(list.len() >= 30, "{}", list.len());
    let names: BTreeSet<&str> = list.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), list.len(), "names are told apart");
    let mut wrong = Vec::new();
    for one in &list {
        let text = std::fs::read_to_string(mutations::root().join(&one.file)).unwrap_or_default();
        match one.apply(&text) {
            Ok(mutated) => assert_ne!(mutated, text, "{}: changes nothing", one.name),
            Err(error) => wrong.push(error.to_string()),
        }
        assert!(!one.tests.is_empty(), "{}: no test is named", one.name);
    }
    assert!(wrong.is_empty(), "the list has to follow the code: {wrong:#?}");
}
