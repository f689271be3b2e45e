//! A word to the init system, which waits for it where a unit says `Type=notify`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The variable that names the socket; systemd's, as of others that do the same.
pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";
/// How long its reader may keep us waiting.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Says that clients are served, to the socket at a path or, behind an `@`, with an abstract name.
pub(super) fn ready(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let own = UnixDatagram::unbound()?;
    own.set_write_timeout(Some(WAIT_MAX))?;
    own.send_to_addr(b"READY=1", &address).map(drop)
}
