//! The shipped rules, with times that a test can wait for.

use std::path::PathBuf;

use crate::read::{alerts::RULES, files};

/// A success older than this is stale here; in production it is 90 minutes, or ten. A story must see that all is well, or well
/// again, before this is over, on a machine that does much else.
pub(super) const STALE_SECONDS: u32 = 30;
/// The ends of the expressions of alerts about that, each on a line of its own.
const STALE: [&str; 2] = [") > 5400", ") > 600"];

/// What is put for what. A day, by which namespaces are remembered that are no more, may stay a day.
const RANGES: [(&str, &str); 10] = [
    // As many as a few runs take, one after the other, on a machine that does much else.
    ("[5m]", "[15s]"),
    ("[10m]", "[15s]"),
    ("[15m]", "[15s]"),
    ("[90m]", "[15s]"),
    ("[1h]", "[15s]"),
    ("[2h]", "[15s]"),
    ("[150m]", "[30s]"),
    ("[3h]", "[30s]"),
    ("[6h]", "[30s]"),
    // No hour of any day: stories are told in ESI's daily downtime, too.
    ("hour() == 11", "hour() == 24"),
];

/// Copies of the rule files, in a folder that goes with the first.
pub(super) fn rules() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let mut used = [false; RANGES.len()];
    let mut stale = [0; STALE.len()];
    let paths = files::list(RULES, ".yaml").into_iter().map(|path| {
        let mut text = files::text(&path);
        for (place, (long, short)) in RANGES.iter().enumerate() {
            used[place] |= text.contains(long);
            text = text.replace(long, short);
        }
        let mut short = |line: &str| match STALE.iter().position(|end| line.trim_start() == *end) {
            Some(place) => {
                stale[place] += 1;
                line.replace(STALE[place], &format!(") > {STALE_SECONDS}"))
            }
            None => held_for_a_second(line),
        };
        let text: Vec<String> = text.lines().map(&mut short).collect();
        let copy = folder.path().join(files::stem(&path, "")).with_extension("yaml");
        std::fs::write(&copy, text.join("\n") + "\n").expect("temporary folders are writable");
        copy
    });
    let paths = paths.collect();
    assert_eq!(
        (used, stale),
        ([true; RANGES.len()], [1; STALE.len()]),
        "a substitution fits no rule, or too many: mend it"
    );
    (folder, paths)
}

fn held_for_a_second(line: &str) -> String {
    let bare = line.trim_start();
    let indent = &line[..line.len() - bare.len()];
    if bare.starts_with("for: ") { format!("{indent}for: 1s") } else { line.to_owned() }
}

#[test]
fn only_times_are_shortened() {
    let (_folder, copies) = rules();
    for (path, copy) in files::list(RULES, ".yaml").iter().zip(copies) {
        let copy = std::fs::read_to_string(copy).expect("it was written");
        for (ours, theirs) in copy.lines().zip(files::text(path).lines()) {
            let without_numbers = |line: &str| -> String {
                let words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
                words.filter(|word| !word.starts_with(|letter: char| letter.is_ascii_digit())).collect()
            };
            assert_eq!(without_numbers(ours), without_numbers(theirs), "{path}");
        }
        assert_eq!(copy.lines().count(), files::text(path).lines().count(), "{path}");
    }
}
