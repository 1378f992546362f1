//! Samples of output in documents are those of this version.

use crate::{
    findings::Findings,
    read::{files, markdown},
};

/// What the number of a migration looks like: a day and six digits.
fn is_version(number: &&str) -> bool {
    number.len() == 14 && number.starts_with("20")
}

#[test]
fn samples_show_the_newest_version_of_the_schema() {
    let migrations = files::list("migrations", ".sql");
    let newest = migrations.last().map(|path| files::stem(path, ".sql")).and_then(|name| name.split('_').next());
    let newest = newest.expect("there are migrations");
    let (mut findings, mut seen) = (Findings::default(), 0);
    for path in files::documents() {
        for block in markdown::document(&files::text(&path)).blocks {
            let numbers = block.text.split(|letter: char| !letter.is_ascii_digit());
            for number in numbers.filter(is_version) {
                seen += 1;
                findings.hold(number == newest, &path, format_args!("shows version {number}; the newest is {newest}"));
            }
        }
    }
    findings.hold(seen > 2, "runbooks", format_args!("only {seen} samples with a version were found"));
    findings.end();
}
