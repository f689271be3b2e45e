//! Behaviour to read: scripts of inputs, and the outputs and state that follow.
//!
//! One file per scenario under `tests/scripts`, by module. `UPDATE_GOLDENFILES=1` writes what came
//! out; a changed script is reviewed as code.

#[path = "scripts/raft.rs"]
mod raft_scripts;
#[path = "../src/raft/tests/world.rs"]
#[expect(dead_code, reason = "the group in memory serves other tests as well")]
mod world;

/// The names under which the shared group in memory knows the library.
mod raft {
    pub(crate) use ringd::raft::*;
}
mod types {
    pub(crate) use ringd::types::*;
}

/// Runs each script of a folder with a fresh runner.
fn run_all<R: goldenscript::Runner>(folder: &str, runner: impl Fn() -> R) {
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "{folder} has scripts");
    for script in scripts {
        if let Err(error) = goldenscript::run(&mut runner(), &script) {
            panic!("{}: {error}", script.display());
        }
    }
}

#[test]
fn raft_does_what_its_scripts_say() {
    run_all("tests/scripts/raft", raft_scripts::Script::default);
}
