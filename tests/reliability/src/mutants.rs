//! What `make mutants` relies on: each patch of `mutants/` says what it breaks and what is to be seen, and still applies.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum as _;

use crate::Stress;
use crate::check::Kind;

/// Fewer would not show that the checker sees.
const MUTANTS_MIN: usize = 8;

fn patches() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let entries = std::fs::read_dir(folder).expect("the folder of mutants");
    entries.map(|entry| entry.expect("its entries").path()).collect()
}

#[test]
fn every_mutant_says_what_it_breaks_and_what_is_to_be_seen() {
    assert!(patches().len() >= MUTANTS_MIN, "{:?}", patches());
    for path in patches() {
        let text = std::fs::read_to_string(&path).expect("a patch");
        let mut lines = text.lines();
        let mut told = |what: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{path:?} lacks \"{what}\"")).to_owned()
        };
        assert!(!told("What: ").is_empty(), "{path:?}");
        let stress = told("Stress: ");
        Stress::from_str(&stress, false).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for kind in told("Expect: ").split(' ') {
            Kind::from_str(kind, false).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
    }
}

#[test]
fn every_mutant_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    for path in patches() {
        let mut git = Command::new("git");
        git.args(["apply", "--check"]).arg(&path).current_dir(root);
        // in a copy that lies in somebody's repository the paths are still those of the copy
        git.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root));
        match git.output() {
            Ok(done) => {
                let told = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "make {path:?} anew, the code it breaks has changed: {told}");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("not tested: there is no git to apply patches with");
                return;
            }
            Err(error) => panic!("git does not run: {error}"),
        }
    }
}
