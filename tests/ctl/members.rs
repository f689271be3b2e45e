//! What servers say of themselves.

use crate::{Area, with_both};

#[test]
fn members_health_status_and_hashes_are_told_alike() {
    with_both(Area::Members, |pair| {
        pair.same(&["put", "a", "1"]);
        for cluster in ["--cluster=false", "--cluster"] {
            for format in ["json", "fields", "protobuf"] {
                for hex in ["--hex=false", "--hex"] {
                    for name in ["health", "status", "hashkv"] {
                        pair.same(&["endpoint", name, cluster, "-w", format, hex]);
                    }
                }
            }
            pair.same(&["endpoint", "health", cluster]);
            for format in ["simple", "table"] {
                pair.same(&["endpoint", "hashkv", cluster, "-w", format]);
            }
        }
        pair.same(&["endpoint", "hashkv", "--rev", "1"]);
        pair.same(&["endpoint", "hashkv", "--rev", "1000"]);
        for consistency in ["l", "s"] {
            for format in ["simple", "json", "fields", "table"] {
                for hex in ["--hex=false", "--hex"] {
                    let list = ["member", "list", "--consistency", consistency];
                    pair.same(&[&list[..], &["-w", format, hex]].concat());
                }
            }
        }
        pair.same_in_every_format(&["alarm", "list"], b"");
        pair.same(&["alarm", "list", "x"]);
    });
}

#[test]
fn the_columns_of_a_status_are_the_same() {
    with_both(Area::Members, |pair| {
        let columns = |printed: &str, separator: &str| {
            let lines = printed.lines().map(|line| {
                line.split(separator).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
            });
            lines.collect::<Vec<_>>()
        };
        for (format, separator) in [("simple", ", "), ("table", "\\xe2\\x94\\x82")] {
            let arguments = ["endpoint", "status", "-w", format];
            let [theirs, ours] = [&pair.theirs, &pair.ours].map(|side| {
                let told = side.told(&arguments, b"");
                assert_eq!(told.code, Some(0), "{told:?}");
                columns(&told.printed, separator)
            });
            assert_eq!(ours.len(), theirs.len(), "{format}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.len(), theirs.len(), "{format}: {ours:?} {theirs:?}");
                // Sizes and positions are each server's own.
                let same = ours.iter().zip(theirs).filter(|(ours, theirs)| ours == theirs).count();
                assert!(same + 7 >= theirs.len(), "{format}: {ours:?} {theirs:?}");
            }
        }
    });
}

#[test]
fn upkeep_is_told_alike() {
    with_both(Area::Upkeep, |pair| {
        pair.same_in_every_format(&["alarm", "disarm"], b"");
        pair.same(&["defrag"]);
        pair.same(&["defrag", "--cluster"]);
        pair.same(&["move-leader", "1"]);
        pair.same(&["move-leader", "zz"]);
        pair.same(&["move-leader"]);
        pair.same(&["snapshot", "save"]);
        for side in [&pair.theirs, &pair.ours] {
            let file = side.server.data().with_file_name("snapshot");
            let told = side.told(&["snapshot", "save", file.to_str().expect("text")], b"");
            assert_eq!(told.code, Some(0), "{told:?}");
            let printed = format!("Snapshot saved at {}\nServer version 3.7.0\n", file.display());
            assert_eq!(told.printed, printed);
            let size = file.metadata().expect("it is there").len();
            assert_eq!(size % 512, 32, "whole sectors and a digest");
        }
        let told = pair.same(&["snapshot", "save", "/nowhere/at/all"]);
        assert_eq!(told.code, Some(5), "{told:?}");
    });
}

#[test]
fn a_user_without_a_server_that_knows_users_is_served() {
    with_both(Area::Upkeep, |pair| {
        pair.same(&["put", "a", "1", "--user", "root:x"]);
        pair.same(&["get", "a", "--user", "root", "--password", "x"]);
    });
}
