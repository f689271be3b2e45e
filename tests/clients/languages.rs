//! The clients, what they need, and how they are built and run.

use crate::support::peers::root;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

/// So that a quiet watcher is told soon how far it has come.
const TOLD_OFTEN: &[&str] = &["--watch-progress-notify-interval=200ms"];

/// A program that must be there, and how to see that it works.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) probe: &'static [&'static str],
    pub(crate) get: &'static str,
}

/// A language with our client in it, or one with a library of its own.
pub(crate) struct Language {
    /// Its folder, beside this file and below `target/clients`.
    pub(crate) name: &'static str,
    /// What it needs.
    pub(crate) tools: &'static [Tool],
    /// Flags of the server that it talks with.
    pub(crate) flags: &'static [&'static str],
    /// What fetches the libraries, run in its folder below `target/clients`.
    pub(crate) fetch: fn(&Path) -> Vec<Command>,
    /// What runs the client there against an address.
    pub(crate) client: fn(&Path, &str) -> Command,
}

/// grpcio, and modules made from `proto/`.
pub(crate) const PYTHON: Language = Language {
    name: "python",
    tools: &[
        Tool { program: "python3", probe: &["--version"], get: "apt install python3" },
        Tool {
            program: "python3",
            probe: &["-c", "import venv, ensurepip"],
            get: "apt install python3-venv",
        },
    ],
    flags: &[],
    fetch: |folder| {
        let proto = root().join("proto");
        let mut compile = command(folder.join("venv/bin/python"), &["-m", "grpc_tools.protoc"]);
        compile.arg("-I").arg(&proto).args(["--python_out=.", "--grpc_python_out=."]);
        compile.args(["etcdserverpb.proto", "mvccpb.proto", "authpb.proto"]);
        vec![venv(), install(folder), compile]
    },
    client: |folder, address| command(folder.join("venv/bin/python"), &["client.py", address]),
};

/// The same, with all members of a cluster in one channel.
pub(crate) const PYTHON_CLUSTER: Language = Language {
    client: |folder, address| command(folder.join("venv/bin/python"), &["cluster.py", address]),
    ..PYTHON
};

/// grpc-js, which reads `proto/` itself.
pub(crate) const NODE: Language = Language {
    name: "node",
    tools: &[
        Tool { program: "node", probe: &["--version"], get: "apt install nodejs" },
        Tool { program: "npm", probe: &["--version"], get: "apt install npm" },
    ],
    flags: &[],
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

/// jetcd.
pub(crate) const JAVA: Language = Language {
    name: "java",
    tools: &[
        Tool { program: "javac", probe: &["-version"], get: "apt install default-jdk-headless" },
        Tool { program: "mvn", probe: &["--version"], get: "apt install maven" },
    ],
    flags: &[],
    fetch: |_| {
        let plugin = "org.apache.maven.plugins:maven-dependency-plugin:2.8:build-classpath";
        vec![command("mvn", &["-q", "-B", plugin, "-Dmdep.outputFile=classpath"])]
    },
    client: |folder, address| {
        let classpath = fs::read_to_string(folder.join("classpath")).expect("maven wrote it");
        command("java", &["-cp", classpath.trim(), "PutGetDelete.java", address])
    },
};

/// The same, with its watches and the server's own locks and elections.
pub(crate) const JAVA_SESSIONS: Language = Language {
    client: |folder, address| {
        let classpath = fs::read_to_string(folder.join("classpath")).expect("maven wrote it");
        command("java", &["-cp", classpath.trim(), "Sessions.java", address])
    },
    ..JAVA
};

/// Etcd's own client.
pub(crate) const GO: Language = Language {
    name: "go",
    tools: &[Tool { program: "go", probe: &["version"], get: "apt install golang" }],
    flags: &[],
    fetch: |_| vec![command("go", &["build", "-o", "client", "."])],
    client: |folder, address| command(folder.join("client"), &[address]),
};

/// The same, with its recipes for sessions.
pub(crate) const GO_SESSIONS: Language = Language {
    flags: TOLD_OFTEN,
    client: |folder, address| command(folder.join("client"), &[address, "sessions"]),
    ..GO
};

/// The library `etcd3` of PyPI.
pub(crate) const PYTHON_ETCD3: Language = Language {
    name: "python-etcd3",
    flags: TOLD_OFTEN,
    fetch: |folder| vec![venv(), install(folder)],
    ..PYTHON
};

/// The library `etcd3` of npm.
pub(crate) const NODE_ETCD3: Language = Language {
    name: "node-etcd3",
    flags: TOLD_OFTEN,
    client: |_, address| command("node", &["client.js", address]),
    ..NODE
};

/// The crate `etcd-client`, which uses the server's own locks and elections.
pub(crate) const RUST_ETCD_CLIENT: Language = Language {
    name: "rust-etcd-client",
    tools: &[Tool { program: "cargo", probe: &["--version"], get: "install Rust from rustup.rs" }],
    flags: TOLD_OFTEN,
    fetch: |folder| {
        let build = |what: &str| {
            let arguments = ["build", "--quiet", "--target-dir", "build", "--features", what];
            command("cargo", &arguments)
        };
        let mut client = build("client");
        client.env("PROTOC", folder.join("build/debug/protoc"));
        vec![build("protoc"), client]
    },
    client: |folder, address| command(folder.join("build/debug/client"), &[address]),
};

fn venv() -> Command {
    command("python3", &["-m", "venv", "venv"])
}

/// Installs what the client asks for.
fn install(folder: &Path) -> Command {
    let arguments = ["install", "--quiet", "--requirement", "requirements.txt"];
    command(folder.join("venv/bin/pip"), &arguments)
}

/// A program with its arguments.
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
