//! The code stays the shape that ARCHITECTURE.md says it has.
//!
//! Each rule is a function from one file to what is wrong with it; below them stand the tests that
//! walk the tree, and one test per rule that shows it to catch a planted breach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Columns of a line.
const LINE_COLUMNS_MAX: usize = 100;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file, its unit tests aside.
const FILE_LINES_MAX: usize = 800;
/// Lines of README.md.
const README_LINES_MAX: usize = 150;
/// Lines of ARCHITECTURE.md.
const ARCHITECTURE_LINES_MAX: usize = 420;

/// The heading of ARCHITECTURE.md above the table of layers.
const LAYERS_HEADING: &str = "## Layers";

/// What only the shell may name.
const SHELL_ONLY: [&str; 11] = [
    ".await",
    "Instant",
    "SystemTime",
    "async",
    "getrandom",
    "glommio",
    "std::env::var",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
];

/// What only `api` may name: protobuf stops there.
const API_ONLY: [&str; 2] = ["prost::", "proto::"];

/// Notes to oneself, which belong in an issue. Split, so that this file has none.
const BANNED_WORDS: [&str; 4] =
    [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK"), concat!("TO", "DO")];

/// A source file.
struct Source {
    /// Its path from the top of the tree.
    path: String,
    /// What is in it.
    text: String,
}

impl Source {
    /// Each line with its number, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Each line with its number, without comments and the insides of strings.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.lines().map(|(number, line)| (number, without_comment(line)))
    }

    /// The module of the crate that it belongs to; none for the crate's own files.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let module = rest.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    /// The number of the line where its unit tests begin; past its end if it has none.
    fn tests_at(&self) -> usize {
        let path = self.path.strip_prefix("ctl/").unwrap_or(&self.path).strip_prefix("src/");
        if path.is_some_and(|path| path.ends_with("/tests.rs") || path.contains("/tests/")) {
            return 1;
        }
        let lines: Vec<_> = self.text.lines().collect();
        let found = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        });
        found.map_or(lines.len() + 1, |at| at + 1)
    }

    /// What is wrong at a line.
    fn wrong(&self, number: usize, what: impl AsRef<str>) -> String {
        format!("{}:{number}: {}", self.path, what.as_ref())
    }
}

/// A line of code without its comment and without what its strings say.
fn without_comment(line: &str) -> String {
    let (mut code, mut quoted, mut rest) = (String::new(), false, line.chars().peekable());
    while let Some(c) = rest.next() {
        match c {
            '\\' if quoted => {
                rest.next();
            }
            '"' => quoted = !quoted,
            '\'' if !quoted && rest.peek() == Some(&'"') => {
                rest.next();
            }
            '/' if !quoted && rest.peek() == Some(&'/') => break,
            _ if quoted => {}
            other => code.push(other),
        }
    }
    code
}

/// Whether `code` names `word`, and not only a longer word with it inside.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = !word.starts_with(part) || before.is_none_or(|c| !part(c));
        starts && (!word.ends_with(part) || after.is_none_or(|c| !part(c)))
    })
}

/// The table of layers: what each module may use.
fn allowed_uses(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    architecture
        .lines()
        .skip_while(|line| *line != LAYERS_HEADING)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let mut cells = line.split('|').skip(1);
            let module = names(cells.next()?).into_iter().next()?;
            Some((module, names(cells.next()?).into_iter().collect()))
        })
        .collect()
}

/// Every `crate::x` is one that the file's module may use, and reads as one.
fn layers(source: &Source, allowed: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(allowed) = allowed.get(module) else {
        return vec![source.wrong(1, format!("`{module}` is not in the table of layers"))];
    };
    let mut wrong = Vec::new();
    for (number, code) in source.code() {
        if code.contains("crate::{") {
            wrong.push(source.wrong(number, "name one module per import of the crate"));
        }
        if code.contains("super::super") {
            wrong.push(source.wrong(number, "name the module by its path in the crate"));
        }
        for rest in code.split("crate::").skip(1) {
            let used: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !used.is_empty() && used != module && !allowed.contains(&used) {
                wrong.push(source.wrong(number, format!("`{module}` may not use `{used}`")));
            }
        }
    }
    wrong
}

/// Nothing under the shell awaits, tells the time, draws lots, or touches files and sockets.
fn shell(source: &Source) -> Vec<String> {
    let Some(module) = source.module().filter(|module| *module != "rt") else {
        return Vec::new();
    };
    let tests_at = source.tests_at();
    let mut wrong = Vec::new();
    for (number, code) in source.code().take_while(|(number, _)| *number < tests_at) {
        for word in SHELL_ONLY.iter().filter(|word| names(&code, word)) {
            wrong.push(source.wrong(number, format!("only rt may name {word}, not `{module}`")));
        }
    }
    wrong
}

/// Protobuf stops at `api`.
fn protobuf(source: &Source) -> Vec<String> {
    let Some(module) = source.module().filter(|module| *module != "api") else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for (number, code) in source.code() {
        for word in API_ONLY.iter().filter(|word| names(&code, word)) {
            wrong.push(source.wrong(number, format!("only api may name {word}, not `{module}`")));
        }
    }
    wrong
}

/// Lines, functions and files are small enough to read.
fn budgets(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in source.lines() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX {
            let what = format!("a line of {columns} columns, above {LINE_COLUMNS_MAX}");
            wrong.push(source.wrong(number, what));
        }
    }
    let count = source.text.lines().count().min(source.tests_at() - 1);
    if count > FILE_LINES_MAX {
        let what = format!("a file of {count} lines without its tests, above {FILE_LINES_MAX}");
        wrong.push(source.wrong(1, what));
    }
    for (number, name, count) in functions(&source.text) {
        if count > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {count} lines, above {FUNCTION_LINES_MAX}");
            wrong.push(source.wrong(number, what));
        }
    }
    wrong
}

/// Each function's first line, name and count of lines, in a text that rustfmt has formatted.
fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let Some((before, rest)) = code.split_once("fn ") else { continue };
        let known = ["pub", "const", "async", "unsafe", "extern", "(crate)", "(super)", "pub(in"];
        if !before.split_whitespace().all(|word| known.iter().any(|known| word.contains(known))) {
            continue;
        }
        let name = rest.split(['(', '<']).next().unwrap_or(rest);
        // The signature ends where a body opens at the end of a line, or where none does.
        let signature = lines[at..].iter().position(|line| line.ends_with(['{', ';', '}']));
        let Some(body) = signature.filter(|body| lines[at + body].ends_with('{')) else { continue };
        let end = lines[at + body..].iter().position(|line| {
            line.strip_prefix(indent).is_some_and(|rest| rest == "}" || rest == "},")
        });
        if let Some(end) = end {
            found.push((at + 1, name, body + end + 1));
        }
    }
    found
}

/// No notes to oneself; no test that is not run, and none that waits for time to pass.
fn words(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in source.lines() {
        for word in BANNED_WORDS.iter().filter(|word| names(line, word)) {
            wrong.push(source.wrong(number, format!("{word}: open an issue instead")));
        }
    }
    // Processes and sockets of other programs have to be waited for; what waits in the source
    // itself is the shell's, for its timers, and the linter's to judge elsewhere.
    let tests_at = source.tests_at();
    let waits = source.path.starts_with("tests/process")
        || source.path.starts_with("tests/support/")
        || source.path.starts_with("perf/");
    for (number, code) in source.code() {
        if code.contains("#[ignore") {
            wrong.push(source.wrong(number, "a test that is not run is not a test"));
        }
        let is_source = ["src/", "ctl/src/"].iter().any(|folder| source.path.starts_with(folder));
        let is_test = !is_source || number >= tests_at;
        if is_test && !waits && names(&code, "sleep") {
            wrong.push(source.wrong(number, "only tests of processes may sleep"));
        }
    }
    wrong
}

/// Every file of Rust under a folder, in order; none if the folder is not there.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a listed file").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.to_str().expect("names of ours are text").to_owned();
        if path.is_dir() {
            // What a tool has built there is not ours.
            if !name.ends_with("/target") && !name.ends_with("/node_modules") {
                found.extend(sources(&name));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push(Source { path: name, text });
        }
    }
    found
}

/// Every file of Rust that is ours.
fn all_sources() -> Vec<Source> {
    let folders = ["src", "proto", "tests", "bench", "ctl", "perf"];
    folders.iter().flat_map(|folder| sources(folder)).collect()
}

/// Fails with everything that is wrong, a line each.
fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// ARCHITECTURE.md.
fn architecture() -> String {
    fs::read_to_string("ARCHITECTURE.md").expect("ARCHITECTURE.md is beside Cargo.toml")
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let allowed = allowed_uses(&architecture());
    assert!(allowed.len() > 8, "the table of layers is read");
    report(sources("src").iter().flat_map(|source| layers(source, &allowed)).collect());
}

#[test]
fn only_the_shell_awaits_and_touches_the_world() {
    report(sources("src").iter().flat_map(shell).collect());
}

#[test]
fn protobuf_stops_at_api() {
    report(sources("src").iter().flat_map(protobuf).collect());
}

#[test]
fn lines_functions_and_files_are_within_their_budgets() {
    report(all_sources().iter().flat_map(budgets).collect());
}

#[test]
fn no_source_has_a_banned_word_an_unrun_test_or_a_sleep() {
    report(all_sources().iter().flat_map(words).collect());
}

#[test]
fn the_texts_are_within_their_budgets() {
    for (path, max) in
        [("README.md", README_LINES_MAX), ("ARCHITECTURE.md", ARCHITECTURE_LINES_MAX)]
    {
        let text = fs::read_to_string(Path::new(path)).expect("it is beside Cargo.toml");
        let count = text.lines().count();
        assert!(count <= max, "{path} has {count} lines, above {max}");
    }
}

mod planted {
    use super::*;

    /// A file that is not in the tree.
    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// A table that lets `wal` use `raft`.
    fn table() -> BTreeMap<String, BTreeSet<String>> {
        allowed_uses(
            "| `x` | `not this one` |\n## Layers\n| module | may use |\n|---|---|\n\
             | `wal` | `raft` |\n| `raft` | – |\n## Next\n| `y` | `nor this` |",
        )
    }

    #[test]
    fn the_table_is_read_under_its_own_heading_only() {
        let names: Vec<_> = table().into_keys().collect();
        assert_eq!(names, ["raft", "wal"]);
        assert!(table()["raft"].is_empty());
    }

    #[test]
    fn a_layer_skipped_is_caught() {
        let wrong = layers(&file("src/raft/mod.rs", "\nuse crate::wal::Writer;"), &table());
        assert_eq!(wrong, ["src/raft/mod.rs:2: `raft` may not use `wal`"]);
        assert_eq!(layers(&file("src/raft.rs", "let x = crate::wal::f();"), &table()).len(), 1);
        assert!(layers(&file("src/wal/a.rs", "use crate::raft::Node;"), &table()).is_empty());
        assert!(layers(&file("src/wal.rs", "use crate::wal::x;"), &table()).is_empty());
        assert!(layers(&file("src/raft.rs", "//! See [`crate::wal`]."), &table()).is_empty());
        assert!(layers(&file("src/main.rs", "use crate::anything::X;"), &table()).is_empty());
    }

    #[test]
    fn a_module_without_a_row_is_caught() {
        let wrong = layers(&file("src/new.rs", ""), &table());
        assert_eq!(wrong, ["src/new.rs:1: `new` is not in the table of layers"]);
    }

    #[test]
    fn a_grouped_import_and_a_climb_are_caught() {
        assert_eq!(layers(&file("src/wal.rs", "use crate::{raft, wal};"), &table()).len(), 1);
        assert_eq!(layers(&file("src/wal.rs", "use super::super::raft;"), &table()).len(), 1);
    }

    #[test]
    fn the_world_below_the_shell_is_caught() {
        for text in [
            "use std::fs::File;",
            "use std::net::TcpStream;",
            "let x = socket.read().await;",
            "async fn f() {}",
            "let now = Instant::now();",
            "use glommio::Task;",
            "getrandom::fill(&mut seed);",
            "std::thread::spawn(f);",
        ] {
            assert_eq!(shell(&file("src/shard/mod.rs", text)).len(), 1, "{text}");
            assert!(shell(&file("src/rt/mod.rs", text)).is_empty(), "{text}");
            assert!(shell(&file("ctl/src/main.rs", text)).is_empty(), "{text}");
        }
        for text in ["// .await", "let s = \"std::fs\";", "fn asynchronous() {}", "Instantly"] {
            assert!(shell(&file("src/shard/mod.rs", text)).is_empty(), "{text}");
        }
        let tests = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}";
        assert!(shell(&file("src/wal/format.rs", tests)).is_empty());
        assert!(shell(&file("src/wal/tests.rs", "use std::fs;")).is_empty());
    }

    #[test]
    fn protobuf_below_api_is_caught() {
        for text in ["use prost::Message;", "use crate::api::proto::etcdserverpb;"] {
            assert_eq!(protobuf(&file("src/shard/mod.rs", text)).len(), 1, "{text}");
            assert!(protobuf(&file("src/api/kv.rs", text)).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_budget_overrun_is_caught() {
        let long = "x".repeat(101);
        assert_eq!(budgets(&file("src/a.rs", &long)).len(), 1);
        assert!(budgets(&file("src/a.rs", &"\u{e9}".repeat(100))).is_empty());
        assert_eq!(budgets(&file("src/a.rs", &"\n".repeat(801))).len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(801));
        assert!(budgets(&file("src/a.rs", &tests)).is_empty());
        assert!(budgets(&file("src/a/tests.rs", &"\n".repeat(801))).is_empty());
        assert_eq!(budgets(&file("tests/a.rs", &"\n".repeat(801))).len(), 1);
    }

    #[test]
    fn a_long_function_is_caught_wherever_it_stands() {
        for open in ["fn f() {", "    pub(crate) const fn f<T>(\n        a: T,\n    ) -> u8 {"] {
            let indent = if open.starts_with(' ') { "    " } else { "" };
            let lines = open.lines().count();
            let body = |count: usize| "\n".repeat(count);
            let fits = format!("{open}\n{}{indent}}}\n", body(FUNCTION_LINES_MAX - lines - 1));
            assert!(budgets(&file("src/a.rs", &fits)).is_empty(), "{open}");
            let over = format!("{open}\n{}{indent}}}\n", body(FUNCTION_LINES_MAX - lines));
            assert_eq!(budgets(&file("src/a.rs", &over)).len(), 1, "{open}");
        }
        let declared = format!("    fn f();\n{}}}\n", "\n".repeat(90));
        assert!(functions(&declared).is_empty());
        assert!(functions("    fn f() {}\n}").is_empty());
    }

    #[test]
    fn a_banned_word_is_caught() {
        for word in BANNED_WORDS {
            assert_eq!(words(&file("src/a.rs", &format!("// {word}: later"))).len(), 1);
            assert!(words(&file("src/a.rs", &format!("// {word}S"))).is_empty());
        }
    }

    #[test]
    fn an_unrun_test_and_a_sleep_are_caught() {
        let ignored = concat!("#[ign", "ore = \"slow\"]");
        assert_eq!(words(&file("tests/a.rs", ignored)).len(), 1);
        assert_eq!(words(&file("tests/a.rs", "thread::sleep(ms);")).len(), 1);
        assert_eq!(words(&file("src/a/tests.rs", "thread::sleep(ms);")).len(), 1);
        assert_eq!(words(&file("ctl/tests/a.rs", "thread::sleep(ms);")).len(), 1);
        assert!(words(&file("src/rt/core.rs", "timer::sleep(every).await;")).is_empty());
        assert!(words(&file("ctl/src/a.rs", "time::sleep(pause).await;")).is_empty());
        assert!(words(&file("tests/process.rs", "thread::sleep(ms);")).is_empty());
        assert!(words(&file("tests/a.rs", "let asleep = 1;")).is_empty());
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(without_comment("a // b"), "a ");
        assert_eq!(without_comment("f(\"a // b\") // c"), "f() ");
        assert_eq!(without_comment(r#"f("a \" b", '"', x)"#), "f(, ', x)");
    }
}
