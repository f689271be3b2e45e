//! What the machine must have and what it gives: io_uring, locked memory, CPUs, an address.

use crate::config::Cores;
use io_uring::IoUring;
use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::thread::CpuSet;
use rustix::thread::sched_getaffinity;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;

/// Locked memory that one core's rings need, in bytes (glommio's documented need).
const LOCKED_PER_CORE: u64 = 512 << 10;

/// What is missing, and how to get it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error(
        "io_uring is not permitted ({cause}): ringd reads and writes through it; allow the \
         io_uring_setup, io_uring_enter and io_uring_register calls in the container's seccomp \
         profile, and set the sysctl kernel.io_uring_disabled to 0"
    )]
    Forbidden { cause: io::Error },
    #[error("io_uring is not in this kernel ({cause}): ringd needs Linux 5.8 or newer")]
    Absent { cause: io::Error },
    #[error(
        "too little locked memory: {needed} KiB are needed for {cores} cores and the limit is \
         {found} KiB; raise it (ulimit -l, LimitMEMLOCK= in a systemd unit, --ulimit memlock= of a \
         container) or give ringd fewer --cores"
    )]
    LockedMemory { needed: u64, found: u64, cores: usize },
    #[error("io_uring can not be set up: {cause}")]
    Other { cause: io::Error },
    #[error("CPU {cpu} of --cores is not among those this process may use ({allowed})")]
    Cpu { cpu: usize, allowed: String },
    #[error("--cores asks for {wanted} CPUs and this process may use {found}")]
    Cpus { wanted: usize, found: usize },
    #[error("the CPUs of this process can not be told: {cause}")]
    Affinity { cause: io::Error },
}

/// The CPUs to pin to, in order: the first shard lives on the first of them.
///
/// Unless they were named, the last one comes first. The first CPUs take most of what the system
/// does for itself and whatever is not pinned, and a shard's core is where a moment more shows.
pub(crate) fn cpus(cores: &Cores) -> Result<Vec<usize>, MachineError> {
    let set = sched_getaffinity(None)
        .map_err(|errno| MachineError::Affinity { cause: io::Error::from(errno) })?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).rev().filter(|cpu| set.is_set(*cpu)).collect();
    match cores {
        Cores::All => Ok(allowed),
        Cores::Count(count) if *count <= allowed.len() => Ok(allowed[..*count].to_vec()),
        Cores::Count(count) => Err(MachineError::Cpus { wanted: *count, found: allowed.len() }),
        Cores::List(list) => match list.iter().find(|cpu| !allowed.contains(cpu)) {
            None => Ok(list.clone()),
            Some(cpu) => {
                let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>();
                Err(MachineError::Cpu { cpu: *cpu, allowed: allowed.join(",") })
            }
        },
    }
}

/// Takes as many open files and as much locked memory as the hard limits allow.
///
/// The soft limits are low for the sake of programs that still use `select`; Go's programs raise
/// the first of them by themselves too.
pub(crate) fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let mut limit = getrlimit(resource);
        limit.current = limit.maximum;
        // Then it stays as it is; what is too little shows where it is needed.
        let _ = setrlimit(resource, limit);
    }
}

/// Tries what every core will need, so that a failure is told in words before anything has begun.
pub(crate) fn check(cores: usize) -> Result<(), MachineError> {
    let count = u64::try_from(cores).expect("usize is 64 bits");
    let needed = LOCKED_PER_CORE * count;
    let found = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let too_little = MachineError::LockedMemory { needed: needed >> 10, found: found >> 10, cores };
    // The kernel asks root for none; glommio looks at the limit for its first core all the same.
    let least = if rustix::process::geteuid().is_root() { LOCKED_PER_CORE } else { needed };
    match IoUring::new(128) {
        Ok(_) if found < least => Err(too_little),
        Ok(_) => Ok(()),
        Err(cause) => Err(match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => MachineError::Forbidden { cause },
            Some(libc::ENOSYS) => MachineError::Absent { cause },
            Some(libc::ENOMEM) => too_little,
            _ => MachineError::Other { cause },
        }),
    }
}

/// The machine's own address on its default route, IPv4 if there is one.
pub(super) fn default_host() -> Option<IpAddr> {
    // Nobody has these addresses and nothing is sent: the system is asked which way it would go.
    let (v4, v6) = (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let routed = |own: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
        socket.connect(SocketAddr::new(to, 9))?;
        socket.local_addr()
    };
    let found = routed(Ipv4Addr::UNSPECIFIED.into(), v4.into());
    let found = found.or_else(|_| routed(Ipv6Addr::UNSPECIFIED.into(), v6.into()));
    found.ok().map(|address| address.ip())
}
