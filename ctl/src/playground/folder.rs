//! Where the members of a playground keep their data, and on which ports they are.

use crate::failure::Exit;
use crate::failure::Failure;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

/// The file that remembers the ports, as a member's peers know it by its own.
const PORTS: &str = "ports";

/// A folder for the data of all members.
#[derive(Debug)]
pub(super) struct Folder {
    place: Place,
    /// Of each member: for clients, and for peers.
    ports: Vec<(u16, u16)>,
}

/// A folder that is removed, or one that stays.
#[derive(Debug)]
enum Place {
    Passing(TempDir),
    Kept(PathBuf),
}

impl Folder {
    /// A fresh folder that goes again, or one that is kept; for so many members.
    ///
    /// # Errors
    ///
    /// One that cannot be made, has something else in it, or another number of members.
    pub(super) fn open(kept: Option<&PathBuf>, count: usize) -> Result<Self, Failure> {
        let Some(path) = kept else {
            let made = TempDir::with_prefix("ringd-playground-");
            let folder = made.map_err(|error| failed(&std::env::temp_dir(), error))?;
            let ports = free_ports(count).map_err(|error| Failure::new(Exit::Error, error))?;
            return Ok(Self { place: Place::Passing(folder), ports });
        };
        fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        let path = path.canonicalize().map_err(|error| failed(path, error))?;
        let ports = match fs::read_to_string(path.join(PORTS)) {
            Ok(text) => read(&text).ok_or_else(|| {
                failed(&path.join(PORTS), "this is no list of ports: a line for each member")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path, count)?,
            Err(error) => return Err(failed(&path.join(PORTS), error)),
        };
        if ports.len() != count {
            let there = ports.len();
            return Err(failed(&path, format_args!("it has {there} members; ask for -n {there}")));
        }
        Ok(Self { place: Place::Kept(path), ports })
    }

    pub(super) fn path(&self) -> &Path {
        match &self.place {
            Place::Passing(folder) => folder.path(),
            Place::Kept(path) => path,
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self.place, Place::Kept(_))
    }

    /// The ports of each member: for clients, and for peers.
    pub(super) fn ports(&self) -> &[(u16, u16)] {
        &self.ports
    }

    /// Removes it, unless it is kept.
    ///
    /// # Errors
    ///
    /// That something is left of it.
    pub(super) fn close(self) -> Result<(), Failure> {
        match self.place {
            Place::Kept(_) => Ok(()),
            Place::Passing(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(|error| failed(&path, error))
            }
        }
    }
}

/// Ports for a folder that has none yet, which it remembers.
fn make(path: &Path, count: usize) -> Result<Vec<(u16, u16)>, Failure> {
    let mut entries = fs::read_dir(path).map_err(|error| failed(path, error))?;
    if entries.next().is_some() {
        return Err(failed(path, "there is something else in it; give an empty folder"));
    }
    let ports = free_ports(count).map_err(|error| Failure::new(Exit::Error, error))?;
    let lines = ports.iter().map(|(client, peer)| format!("{client} {peer}\n"));
    let file = path.join(PORTS);
    fs::write(&file, lines.collect::<String>()).map_err(|error| failed(&file, error))?;
    Ok(ports)
}

/// The ports of a file's lines.
fn read(text: &str) -> Option<Vec<(u16, u16)>> {
    let lines = text.lines().map(|line| {
        let (client, peer) = line.split_once(' ')?;
        Some((client.parse().ok()?, peer.parse().ok()?))
    });
    lines.collect()
}

/// Two ports of the loopback for each member that nobody listens on just now.
fn free_ports(count: usize) -> io::Result<Vec<(u16, u16)>> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All are held until the last is found, so that none is found twice.
    let held = (0..count).map(|_| Ok((listen()?, listen()?))).collect::<io::Result<Vec<_>>>()?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    held.iter().map(|(client, peer)| Ok((port(client)?, port(peer)?))).collect()
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Error, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_kept_remembers_its_ports() {
        let parent = TempDir::new().expect("there is room");
        let path = parent.path().join("a/b");
        let first = Folder::open(Some(&path), 2).expect("it is made");
        assert!(first.is_kept());
        let mut all: Vec<_> = first.ports().iter().flat_map(|&(a, b)| [a, b]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4, "each port is one");
        let again = Folder::open(Some(&path), 2).expect("it is there");
        assert_eq!(again.ports(), first.ports());
        again.close().expect("it stays");
        let text = Folder::open(Some(&path), 3).expect_err("it is another").text;
        assert!(text.is_some_and(|text| text.ends_with("it has 2 members; ask for -n 2")));
        fs::write(path.join(PORTS), "nonsense").expect("it is ours");
        assert!(Folder::open(Some(&path), 2).is_err());
        let strange = parent.path().to_owned();
        let text = Folder::open(Some(&strange), 2).expect_err("it is not empty").text;
        assert!(text.is_some_and(|text| text.contains("something else")));
    }

    #[test]
    fn a_folder_that_passes_is_gone_when_closed() {
        let folder = Folder::open(None, 1).expect("it is made");
        let path = folder.path().to_owned();
        assert!(path.is_dir() && !folder.is_kept());
        folder.close().expect("it is removed");
        assert!(!path.exists());
    }
}
