//! Clients in five languages, and etcd's own command line, put, get and delete, in transactions
//! too, list in pages and streams, and compact.
//!
//! Each client is a small program of ours in a folder beside this file, with its libraries pinned
//! by version and fetched into `target/clients` once. A language that is not installed is named
//! and passed over; one that is installed must pass.

mod etcdctl;
mod rust;
#[path = "../support/mod.rs"]
mod support;

use crate::support::peers::{root, under_test};
use crate::support::process::run;
use crate::support::say;
use crate::support::server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long fetching and building the libraries may take.
const FETCH: Duration = Duration::from_secs(600);
/// How long a client may take.
const RUN: Duration = Duration::from_secs(120);

/// A program that must be there, and how to see that it works.
struct Tool {
    program: &'static str,
    probe: &'static [&'static str],
    get: &'static str,
}

/// A language with our client in it.
struct Language {
    name: &'static str,
    tools: &'static [Tool],
    /// What fetches the libraries, run in its folder below `target/clients`.
    fetch: fn(&Path) -> Vec<Command>,
    /// What runs the client there against an address.
    client: fn(&Path, &str) -> Command,
}

const PYTHON: Language = Language {
    name: "python",
    tools: &[
        Tool { program: "python3", probe: &["--version"], get: "apt install python3" },
        Tool {
            program: "python3",
            probe: &["-c", "import venv, ensurepip"],
            get: "apt install python3-venv",
        },
    ],
    fetch: |folder| {
        let proto = root().join("proto");
        let mut compile = command(folder.join("venv/bin/python"), &["-m", "grpc_tools.protoc"]);
        compile.arg("-I").arg(&proto).args(["--python_out=.", "--grpc_python_out=."]);
        compile.args(["etcdserverpb.proto", "mvccpb.proto", "authpb.proto"]);
        vec![
            command("python3", &["-m", "venv", "venv"]),
            command(
                folder.join("venv/bin/pip"),
                &["install", "--quiet", "--requirement", "requirements.txt"],
            ),
            compile,
        ]
    },
    client: |folder, address| command(folder.join("venv/bin/python"), &["client.py", address]),
};

const NODE: Language = Language {
    name: "node",
    tools: &[
        Tool { program: "node", probe: &["--version"], get: "apt install nodejs" },
        Tool { program: "npm", probe: &["--version"], get: "apt install npm" },
    ],
    fetch: |_| {
        let arguments = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"];
        vec![command("npm", &arguments)]
    },
    client: |_, address| {
        let mut client = command("node", &["client.js", address]);
        client.arg(root().join("proto"));
        client
    },
};

const JAVA: Language = Language {
    name: "java",
    tools: &[
        Tool { program: "javac", probe: &["-version"], get: "apt install default-jdk-headless" },
        Tool { program: "mvn", probe: &["--version"], get: "apt install maven" },
    ],
    fetch: |_| {
        let plugin = "org.apache.maven.plugins:maven-dependency-plugin:2.8:build-classpath";
        vec![command("mvn", &["-q", "-B", plugin, "-Dmdep.outputFile=classpath"])]
    },
    client: |folder, address| {
        let classpath = fs::read_to_string(folder.join("classpath")).expect("maven wrote it");
        command("java", &["-cp", classpath.trim(), "PutGetDelete.java", address])
    },
};

const GO: Language = Language {
    name: "go",
    tools: &[Tool { program: "go", probe: &["version"], get: "apt install golang" }],
    fetch: |_| vec![command("go", &["build", "-o", "client", "."])],
    client: |folder, address| command(folder.join("client"), &[address]),
};

#[test]
fn a_python_client_puts_gets_and_deletes() {
    try_language(&PYTHON);
}

#[test]
fn a_node_client_puts_gets_and_deletes() {
    try_language(&NODE);
}

#[test]
fn a_java_client_puts_gets_and_deletes() {
    try_language(&JAVA);
}

#[test]
fn a_go_client_puts_gets_and_deletes() {
    try_language(&GO);
}

fn try_language(language: &Language) {
    let name = language.name;
    for tool in language.tools {
        if !works(tool) {
            let Tool { program, probe, get } = tool;
            let what = format!("`{program} {}` does not work: {get}", probe.join(" "));
            say(format_args!("{name}: skipped, {what}"));
            return;
        }
    }
    let folder = prepare(language);
    let server = Server::start(&under_test());
    let mut client = (language.client)(&folder, &server.address());
    let output = run(client.current_dir(&folder), RUN).unwrap_or_else(|why| panic!("{why}"));
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} client: {}\n{told}{errors}", output.status);
    assert!(told.lines().any(|line| line == "ok"), "{name} client ended early:\n{told}{errors}");
}

fn works(tool: &Tool) -> bool {
    run(&mut command(tool.program, tool.probe), RUN).is_ok_and(|output| output.status.success())
}

/// Copies a client to its folder below `target/clients`, and fetches its libraries there if
/// anything about it is new.
fn prepare(language: &Language) -> PathBuf {
    let folder = root().join("target/clients").join(language.name);
    let fetched = folder.join("fetched");
    let mut sources = files(&root().join("tests/clients").join(language.name));
    sources.extend(files(&root().join("proto")));
    let text: String = sources.iter().map(|(name, text)| format!("=== {name}\n{text}")).collect();
    if fs::read_to_string(&fetched).is_ok_and(|old| old == text) {
        return folder;
    }
    say(format_args!("{}: fetching the client's libraries", language.name));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    for (name, text) in &sources {
        fs::write(folder.join(name), text).expect("the target folder can be written");
    }
    for mut command in (language.fetch)(&folder) {
        let output = run(command.current_dir(&folder), FETCH).unwrap_or_else(|why| panic!("{why}"));
        assert!(
            output.status.success(),
            "{}: {command:?}: {}\n{}{}",
            language.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::write(fetched, text).expect("the target folder can be written");
    folder
}

/// The names and texts of a folder's files, in order.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a source is text"))
        })
        .collect();
    files.sort();
    files
}

fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
