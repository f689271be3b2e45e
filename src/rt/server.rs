//! A node from its configuration to its last breath.
//!
//! The main thread starts the cores, lets them meet their peers once the directory knows who this
//! member is, waits until every shard serves, accepts connections and hands them out, and watches
//! for signals. Everything else happens on the cores.

use crate::api;
use crate::config::Bootstrap;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::InitialMember;
use crate::config::LogOutput;
use crate::config::RINGD_VERSION;
use crate::config::Url;
use crate::identity::Identity;
use crate::identity::Known;
use crate::peer::Card;
use crate::peer::Version;
use crate::rt::ask;
use crate::rt::clock::Clock;
use crate::rt::core::Core;
use crate::rt::core::PeerSettings;
use crate::rt::identity::DataDir;
use crate::rt::identity::DirError;
use crate::rt::listen::ListenError;
use crate::rt::listen::Listener;
use crate::rt::machine;
use crate::rt::machine::MachineError;
use crate::rt::mesh::Mesh;
use crate::rt::mesh::Message;
use crate::rt::mesh::Report;
use crate::rt::notify;
use crate::rt::placement::Placement;
use crate::rt::recover;
use crate::rt::resolve::Resolver;
use crate::rt::signals::Signals;
use crate::types::ShardId;
use glommio::LocalExecutorBuilder;
use glommio::PoolPlacement;
use std::ffi::OsStr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Batches that may wait for a core; each holds all that one turn of another gathered.
const INBOX_MAX: usize = 1024;
/// How long a stop waits for clients to finish, in milliseconds; then their connections are cut.
const STOP_TIMEOUT_MS: u64 = 5_000;

/// Threads of a core for what may block: renames, removals, syncs of directories. A shard has one
/// such for its log and one for its store at a time, and the log's should not wait for the store's.
const BLOCKING_THREADS: usize = 3;

/// Bytes of a core's memory that are registered for its files, and resident from the start. 4 MiB:
/// two frames and two writes of segments of the usual size. What finds no room there is taken from
/// the allocator.
const IO_MEMORY: usize = 4 << 20;

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The flags describe no cluster.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory, the machine, an address or a shard's files.
    #[error("{0}")]
    Start(String),
    /// What ended a node that was running.
    #[error("{0}")]
    Failed(String),
}

impl From<DirError> for ServerError {
    fn from(error: DirError) -> Self {
        Self::Start(error.to_string())
    }
}

impl From<MachineError> for ServerError {
    fn from(error: MachineError) -> Self {
        Self::Start(error.to_string())
    }
}

impl From<ListenError> for ServerError {
    fn from(error: ListenError) -> Self {
        Self::Start(error.to_string())
    }
}

/// What each core is told of the whole.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) identity: Identity,
    /// Whether the directory has served before.
    pub(super) is_known: bool,
    pub(super) bootstrap: Bootstrap,
    /// By core.
    cpus: Vec<usize>,
    /// By shard: its core.
    homes: Vec<u32>,
    pub(super) clock: Clock,
}

/// Runs a node until a signal asks it to stop; which one. The socket `waits` is told once clients
/// are served.
///
/// # Errors
/// [`ServerError`], whose text says what to do. Nothing that was acknowledged is lost by it.
pub(crate) fn run(config: Config, waits: Option<&OsStr>) -> Result<i32, ServerError> {
    let clock = Clock::start();
    let config = Arc::new(config);
    let cpus = machine::cpus(&config.machine.cores)?;
    machine::raise_limits();
    machine::check(cpus.len())?;
    let logs = config.log.outputs.iter().filter_map(|output| match output {
        LogOutput::File(path) => Some(path.as_path()),
        LogOutput::Stderr | LogOutput::Stdout => None,
    });
    let others: Vec<_> = config.wal_dir.as_deref().into_iter().chain(logs).collect();
    let dir = DataDir::open(&config.data_dir, &others)?;
    let kept = dir.identity()?;
    let bootstrap = match &kept {
        Some(identity) => founded(&config, identity),
        None => config.bootstrap_among(&ask::rolls(&config.peers()?))?,
    };
    let shards = u32::try_from(config.shards.len()).expect("shards are few");
    let identity = identity(&config, &dir, kept.as_ref(), &bootstrap)?;
    let signals = Signals::new()
        .map_err(|cause| ServerError::Start(format!("signals can not be caught: {cause}")))?;
    let listeners = Listener::open_clients(&config)?;
    let doors = Listener::open_peers(&config)?;
    let resolver = Resolver::start()
        .map_err(|cause| ServerError::Start(format!("the resolver can not start: {cause}")))?;
    let cores = u32::try_from(cpus.len()).expect("CPUs are few");
    let homes = (0..shards).map(|shard| shard % cores).collect();
    let is_known = kept.is_some();
    let config = config.clone();
    let plan = Plan { config, identity, is_known, bootstrap, cpus, homes, clock };
    let founders = plan.bootstrap.founders.clone();
    let urls = plan.config.advertise_peer_urls.iter().map(Url::to_string).collect();
    let peers = PeerSettings { card: card(&plan), founders, urls, resolver };
    describe(&plan);
    if !is_known {
        dir.intend(&plan.identity)?;
    }
    let signals = Arc::new(signals);
    let mut node = Node::start(&plan, &peers)?;
    node.wait_opened(shards, &signals)?;
    if !is_known {
        // Before the first word to a peer: what this member promises must not be taken for nothing
        // by its next start.
        dir.keep()?;
    }
    node.meet(doors, plan.homes[0], &signals)?;
    node.wait_ready(shards, &signals)?;
    announce(&plan.config, waits);
    let signal = node.accept(&plan, &listeners, &signals)?;
    drop(listeners);
    node.stop(clock)?;
    Ok(signal)
}

/// Who this member is: what its directory says, or what it is about to become.
fn identity(
    config: &Config,
    dir: &DataDir,
    kept: Option<&Identity>,
    bootstrap: &Bootstrap,
) -> Result<Identity, ServerError> {
    let shards = u32::try_from(config.shards.len()).expect("shards are few");
    match kept {
        Some(identity) if identity.shards != shards => Err(ServerError::Start(format!(
            "{} holds {} shards and --shards asks for {shards}; start with --shards {}",
            config.data_dir.display(),
            identity.shards,
            identity.shards
        ))),
        Some(identity) => Ok(identity.clone()),
        None => Ok(Identity {
            cluster: bootstrap.cluster,
            member: bootstrap.node,
            shards,
            log_id: dir.intention().map_or_else(random, |intended| intended.log_id),
            joined: bootstrap.joins,
            founders: bootstrap.founders.clone(),
            known: known(bootstrap),
        }),
    }
}

/// The cluster that this member belongs to since its first start, whatever the flags that found one
/// say now; etcd reads them only on an empty directory, too.
fn founded(config: &Config, identity: &Identity) -> Bootstrap {
    let is_url = |text: &String| Url::parse(text).ok();
    let member = |known: &Known| InitialMember {
        id: known.id,
        name: known.name.clone(),
        peer_urls: known.peer_urls.iter().filter_map(is_url).collect(),
        client_urls: Vec::new(),
        learner: known.learner,
    };
    let mut members: Vec<_> = identity.known.iter().map(member).collect();
    if members.is_empty() {
        let (id, name) = (identity.member, config.name.clone());
        let (peer_urls, client_urls) = (config.advertise_peer_urls.clone(), Vec::new());
        members.push(InitialMember { id, name, peer_urls, client_urls, learner: false });
    }
    let (cluster, node, joins) = (identity.cluster, identity.member, identity.joined);
    let mut founders = identity.founders.clone();
    if founders.is_empty() {
        founders.push(node);
    }
    Bootstrap { cluster, node, members, founders, joins }
}

/// What a member that begins keeps of the others.
fn known(bootstrap: &Bootstrap) -> Vec<Known> {
    let known = |member: &InitialMember| Known {
        id: member.id,
        learner: member.learner,
        peer_urls: member.peer_urls.iter().map(Url::to_string).collect(),
        name: member.name.clone(),
    };
    bootstrap.members.iter().map(known).collect()
}

/// What this node's first shard says of itself to peers.
fn card(plan: &Plan) -> Card {
    Card {
        cluster: plan.identity.cluster,
        node: plan.identity.member,
        shard: ShardId(0),
        shards: plan.identity.shards,
        log: plan.identity.log_id,
        run: random(),
        version: Version::parse(RINGD_VERSION),
    }
}

/// The running cores.
struct Node {
    cores: Vec<flume::Sender<Message>>,
    reports: flume::Receiver<Report>,
    placement: Arc<Placement>,
    /// Shards that have a log, and shards that serve.
    opened: u32,
    ready: u32,
}

impl Node {
    fn start(plan: &Plan, settings: &PeerSettings) -> Result<Self, ServerError> {
        let (report, reports) = flume::unbounded();
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            plan.cpus.iter().map(|_| flume::bounded::<Message>(INBOX_MAX)).unzip();
        let placement = Arc::new(Placement::new(plan.cpus.len(), plan.homes.len()));
        for (index, inbox) in (0u32..).zip(inboxes) {
            let (plan, peers, report) = (plan.clone(), senders.clone(), report.clone());
            let (placement, settings) = (placement.clone(), settings.clone());
            thread::Builder::new()
                .name(format!("core-{index}"))
                .spawn(move || run_core((index, plan, settings), peers, inbox, placement, report))
                .map_err(|cause| {
                    ServerError::Start(format!("core {index} can not start: {cause}"))
                })?;
        }
        Ok(Self { cores: senders, reports, placement, opened: 0, ready: 0 })
    }

    /// Waits until every shard has a log that a restart would find.
    fn wait_opened(&mut self, shards: u32, signals: &Signals) -> Result<(), ServerError> {
        while self.opened < shards {
            self.take_report(signals)?;
        }
        Ok(())
    }

    /// Waits until every shard serves.
    fn wait_ready(&mut self, shards: u32, signals: &Signals) -> Result<(), ServerError> {
        while self.ready < shards {
            self.take_report(signals)?;
        }
        Ok(())
    }

    /// Waits a moment for a report.
    fn take_report(&mut self, signals: &Signals) -> Result<(), ServerError> {
        match self.reports.recv_timeout(Duration::from_millis(50)) {
            Ok(Report::Opened) => self.opened += 1,
            Ok(Report::Ready) => self.ready += 1,
            Ok(Report::Failed(why)) => return Err(ServerError::Start(why)),
            Ok(Report::Stopped) => {}
            Err(flume::RecvTimeoutError::Timeout) => {
                if let Some(signal) = signals.received() {
                    let text = format!("stopped by signal {signal} before it was ready");
                    return Err(ServerError::Start(text));
                }
            }
            Err(flume::RecvTimeoutError::Disconnected) => {
                return Err(ServerError::Start("every core has ended".into()));
            }
        }
        Ok(())
    }

    /// Lets the cores call their peers, and hands what the peer port accepts to the core of the
    /// first shard, on a thread of its own: peers are heard before clients are.
    fn meet(
        &self,
        doors: Vec<Listener>,
        home: u32,
        signals: &Arc<Signals>,
    ) -> Result<(), ServerError> {
        for core in &self.cores {
            let _ = core.send(Message::Meet);
        }
        let home = usize::try_from(home).expect("usize is 64 bits");
        let (core, signals) = (self.cores[home].clone(), signals.clone());
        let accept = move || {
            while signals.received().is_none() {
                for (socket, _) in Listener::wait(&doors, &signals) {
                    if core.send(Message::Peer(socket, Vec::new())).is_err() {
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("peers".to_owned()).spawn(accept);
        let fail = |cause| ServerError::Start(format!("peers can not be heard: {cause}"));
        thread.map(drop).map_err(fail)
    }

    /// Hands out connections until a signal comes; which one.
    fn accept(
        &self,
        plan: &Plan,
        listeners: &[Listener],
        signals: &Signals,
    ) -> Result<i32, ServerError> {
        loop {
            if let Some(signal) = signals.received() {
                tracing::info!(signal, "received signal; shutting down");
                return Ok(signal);
            }
            if let Ok(Report::Failed(why)) = self.reports.try_recv() {
                return Err(ServerError::Failed(why));
            }
            for (socket, shard) in Listener::wait(listeners, signals) {
                let shard = shard.expect("clients come to a shard");
                let home = plan.homes[usize::try_from(shard.0).expect("usize is 64 bits")];
                let most = plan.config.limits.connections_max;
                let Some(core) = self.placement.choose(home, most) else {
                    tracing::warn!("a connection was closed: every core has its most");
                    continue;
                };
                let at = usize::try_from(core).expect("usize is 64 bits");
                let _ = self.cores[at].send(Message::Connection(socket, shard));
            }
        }
    }

    /// Lets clients finish and shards come to rest.
    fn stop(&self, clock: Clock) -> Result<(), ServerError> {
        for core in &self.cores {
            let _ = core.send(Message::Stop);
        }
        let began = clock.now();
        let mut stopped = 0;
        while stopped < self.cores.len() {
            match self.reports.recv_timeout(Duration::from_millis(50)) {
                Ok(Report::Stopped) => stopped += 1,
                Ok(Report::Opened | Report::Ready) | Err(flume::RecvTimeoutError::Timeout) => {}
                Ok(Report::Failed(why)) => return Err(ServerError::Failed(why)),
                Err(flume::RecvTimeoutError::Disconnected) => break,
            }
            if clock.now().since(began) > STOP_TIMEOUT_MS {
                tracing::warn!("some clients did not finish in time; their connections are cut");
                break;
            }
        }
        Ok(())
    }
}

/// One core's thread.
fn run_core(
    (index, plan, settings): (u32, Plan, PeerSettings),
    peers: Vec<flume::Sender<Message>>,
    inbox: flume::Receiver<Message>,
    placement: Arc<Placement>,
    report: flume::Sender<Report>,
) {
    let at = usize::try_from(index).expect("usize is 64 bits");
    let spin = Duration::from_micros(u64::from(plan.config.machine.spin_us));
    let place = match plan.config.machine.pin {
        true => glommio::Placement::Fixed(plan.cpus[at]),
        false => glommio::Placement::Unbound,
    };
    let executor = LocalExecutorBuilder::new(place)
        .spin_before_park(spin)
        .io_memory(IO_MEMORY)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .make();
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => {
            let _ = report.send(Report::Failed(format!("core {index} can not start: {error}")));
            return;
        }
    };
    executor.run(async move {
        let peer_settings = settings;
        let settings = api::Settings::new(&plan.config);
        let mesh = Mesh {
            homes: plan.homes.clone(),
            peers,
            placement,
            reports: report.clone(),
            messages_max: usize::try_from(plan.config.limits.mesh_messages_max)
                .expect("usize is 64 bits"),
        };
        let core = Core::new((index, plan.clock), (settings, peer_settings), mesh);
        let core = Rc::new(core);
        glommio::spawn_local(core.clone().receive_messages(inbox)).detach();
        glommio::spawn_local(core.clone().keep_time()).detach();
        glommio::spawn_local(core.clone().keep_pace()).detach();
        for (shard, _) in plan.config.shards() {
            if plan.homes[usize::try_from(shard.0).expect("usize is 64 bits")] != index {
                continue;
            }
            match recover::open(&plan, shard).await {
                Ok((shard_machine, disks)) => core.host(shard, shard_machine, disks),
                Err(why) => {
                    let _ = report.send(Report::Failed(format!("shard {shard}: {why}")));
                    return;
                }
            }
        }
        core.drive().await;
    });
}

/// Says on one screen what runs where.
fn describe(plan: &Plan) {
    let config = &plan.config;
    tracing::info!(
        etcd_version = crate::config::ETCD_VERSION,
        ringd_version = RINGD_VERSION,
        name = config.name,
        data_dir = %config.data_dir.display(),
        cluster_id = %format_args!("{:x}", plan.identity.cluster.0),
        local_member_id = %format_args!("{:x}", plan.identity.member.0),
        cores = ?plan.cpus,
        heartbeat_ms = config.raft.heartbeat_interval_ms,
        election_ms = config.raft.election_timeout_ms,
        max_request_bytes = config.limits.request_bytes_max,
        "starting ringd"
    );
    for (id, shard) in config.shards() {
        let home = plan.homes[usize::try_from(id.0).expect("usize is 64 bits")];
        tracing::info!(
            shard = id.0,
            core = home,
            cpu = plan.cpus[usize::try_from(home).expect("usize is 64 bits")],
            wal_dir = %config.shard_wal_dir(id).display(),
            listen_client_urls = %texts(&shard.listen_client_urls),
            advertise_client_urls = %texts(&shard.advertise_client_urls),
            "shard"
        );
    }
}

/// etcd's lines that harnesses wait for, and the word that an init system does.
fn announce(config: &Config, waits: Option<&OsStr>) {
    tracing::info!("ready to serve client requests");
    for (id, shard) in config.shards() {
        for url in &shard.listen_client_urls {
            tracing::info!(
                shard = id.0,
                traffic = "grpc+http",
                address = %format_args!("{}:{}", url.host(), url.port()),
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
    }
    match waits.map(notify::ready) {
        Some(Ok(())) => tracing::info!("successfully notified init daemon"),
        Some(Err(error)) => tracing::error!(%error, "failed to notify systemd for readiness"),
        None => {}
    }
}

fn texts(urls: &[Url]) -> String {
    urls.iter().map(Url::text).collect::<Vec<_>>().join(",")
}

/// 64 bits by lot.
pub(super) fn random() -> u64 {
    getrandom::u64().expect("the system gives random bytes")
}
