//! Compiles our text of etcd's messages, and lists every service with its methods.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// One file per package, named after it but for gRPC's own.
const FILES: [&str; 6] = [
    "authpb.proto",
    "etcdserverpb.proto",
    "health.proto",
    "mvccpb.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
];

fn main() {
    let proto = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("proto");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", proto.join(file).display());
    }
    let files = protox::compile(FILES, [&proto]).expect("our own text compiles");

    let mut services = String::from("&[\n");
    for file in &files.file {
        for service in &file.service {
            let methods: Vec<_> = service.method.iter().map(|method| method.name()).collect();
            let (package, name) = (file.package(), service.name());
            writeln!(services, "    (\"{package}.{name}\", &{methods:?}),")
                .expect("a String grows");
        }
    }
    services.push_str("]\n");
    let out = env::var_os("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&out).join("services.rs"), services).expect("OUT_DIR is ours to write");

    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(files)
        .expect("what protox read, prost can write");
}
