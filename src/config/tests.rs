//! The rules of the configuration, one by one; messages are etcd's where etcd has any.

use super::*;
use crate::types::{ClusterId, NodeId};
use std::slice;

/// What becomes of these arguments, variables and file.
fn command(
    arguments: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Command, ConfigError> {
    command_on(None, arguments, environment, file)
}

/// The same on a machine with this address.
fn command_on(
    host: Option<&str>,
    arguments: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Command, ConfigError> {
    let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(
        &arguments,
        &environment,
        |path| {
            assert_eq!(path, "node.yml", "only the file that was named is read");
            file.map(str::to_owned).ok_or_else(|| "no such file or directory".to_owned())
        },
        || host.map(|host| host.parse().expect("an address")),
    )
}

/// The node that these ask for.
fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Start {
    match command(arguments, environment, None) {
        Ok(Command::Run(start)) => *start,
        other => panic!("{arguments:?} {environment:?} gave {other:?}"),
    }
}

/// The node that these arguments ask for.
fn config(arguments: &[&str]) -> Config {
    start(arguments, &[]).config
}

/// The node that this file asks for.
fn from_file(text: &str) -> Result<Config, ConfigError> {
    match command(&["--config-file=node.yml"], &[], Some(text))? {
        Command::Run(start) => Ok(start.config),
        other @ (Command::Help | Command::Version) => panic!("a file gave {other:?}"),
    }
}

/// The message and the exit code that these arguments are refused with.
fn refusal(arguments: &[&str]) -> (String, u8) {
    let error = command(arguments, &[], None).expect_err("these are wrong");
    (error.to_string(), error.exit_code())
}

#[test]
fn nothing_said_is_etcds_defaults() {
    let told_nothing = config(&[]);
    assert_eq!(told_nothing, Config::default());
    assert_eq!(told_nothing.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(told_nothing.shards.len(), 1);
}

#[test]
fn every_default_in_the_table_is_what_nothing_said_gives() {
    for flag in flags::all() {
        if ["data-dir", "listen-client-urls", "config-file", "version"].contains(&flag.name) {
            continue;
        }
        let argument = format!("--{}={}", flag.name, flag.default);
        assert_eq!(config(&[&argument]), Config::default(), "{argument}");
    }
}

#[test]
fn a_flag_has_one_dash_or_two_and_its_value_beside_or_behind() {
    for arguments in [
        &["--name=a"][..],
        &["-name=a"],
        &["--name", "a"],
        &["-name", "a"],
        &["--name", "b", "--name=a"],
    ] {
        assert_eq!(config(arguments).name, "a", "{arguments:?}");
    }
    assert_eq!(config(&["--name="]).name, "");
    assert_eq!(config(&["--name=a=b"]).name, "a=b");
    assert_eq!(config(&["--"]), Config::default());
}

#[test]
fn a_boolean_flag_alone_is_true_and_takes_no_word_behind_it() {
    assert!(config(&["--socket-reuse-port"]).connections.reuse_port);
    assert!(!config(&["--pre-vote=F"]).raft.pre_vote);
    let expected = ("\"false\" is not a valid flag".to_owned(), 1);
    assert_eq!(refusal(&["--pre-vote", "false"]), expected);
}

#[test]
fn a_command_line_that_cannot_be_read_exits_2() {
    let cases = [
        (&["--nmae", "x"][..], "flag provided but not defined: -nmae (did you mean --name?)"),
        (&["--xyzzyplugh"], "flag provided but not defined: -xyzzyplugh"),
        (
            &["--experimental-warning-apply-duration=1s"],
            "flag provided but not defined: -experimental-warning-apply-duration (did you mean \
             --warning-apply-duration?)",
        ),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--name"], "flag needs an argument: -name"),
        (&["--election-timeout=x"], "invalid value \"x\" for flag -election-timeout: parse error"),
        (
            &["--grpc-keepalive-min-time", "5"],
            "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
        ),
        (
            &["--max-request-bytes", "-3"],
            "invalid value \"-3\" for flag -max-request-bytes: parse error",
        ),
        (&["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        (
            &["--initial-cluster-state=foo"],
            "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--max-concurrent-streams=4294967296"],
            "invalid value \"4294967296\" for flag -max-concurrent-streams: strconv.ParseUint: \
             parsing \"4294967296\": value out of range",
        ),
        (
            &["--listen-client-urls=localhost:2379"],
            "invalid value \"localhost:2379\" for flag -listen-client-urls: URL scheme must be \
             http, https, unix, or unixs: localhost:2379",
        ),
        (&["--auto-tls=x"], "invalid boolean value \"x\" for -auto-tls: parse error"),
    ];
    for (arguments, message) in cases {
        assert_eq!(refusal(arguments), (message.to_owned(), 2), "{arguments:?}");
    }
}

#[test]
fn rules_between_flags_exit_1_in_etcds_words() {
    let cases = [
        (&["foo"][..], "\"foo\" is not a valid flag"),
        (
            &["--listen-client-urls=http://localhost:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--listen-client-urls=http://a.b:1", "--advertise-client-urls=http://a.b:1"],
            "expected IP in URL for binding (http://a.b:1)",
        ),
        (&["--listen-peer-urls=http://foo:2"], "expected IP in URL for binding (http://foo:2)"),
        (
            &["--advertise-client-urls=http://:2379"],
            "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host \
             (http://:2379))",
        ),
        (
            &["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as \
             --heartbeat-interval[300ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--logger=foo"], "unknown logger option \"foo\""),
        (&["--log-level=foo"], "unrecognized level: \"foo\""),
        (&["--log-format=foo"], "unknown log format: foo, supported values json, console"),
        (&["--log-outputs=default,stderr"], "multi logoutput for \"default\" is not supported yet"),
        (&["gateway", "start"], "`gateway` is not implemented in ringd: run etcd's own"),
    ];
    for (arguments, message) in cases {
        assert_eq!(refusal(arguments), (message.to_owned(), 1), "{arguments:?}");
    }
}

#[test]
fn what_ringd_does_not_have_is_refused_unless_it_is_the_default() {
    let message = "--client-cert-auth=true is not implemented yet in ringd (remove it, or use its \
                   default)";
    assert_eq!(refusal(&["--client-cert-auth"]), (message.to_owned(), 1));
    config(&[
        "--client-cert-auth=0",
        "--corrupt-check-time=0",
        "--watch-progress-notify-interval=600s",
    ]);
    let (message, _) = refusal(&["--unsafe-no-fsync"]);
    assert!(message.contains("never runs without syncing"), "{message}");
    config(&["--unsafe-no-fsync=false"]);
    let https = ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=http://a:1"];
    let message = "https://127.0.0.1:1: only http URLs are implemented yet in ringd";
    assert_eq!(refusal(&https), (message.to_owned(), 1));
}

#[test]
fn what_cannot_have_an_effect_is_accepted_and_said() {
    let start = start(&["--max-wals=7"], &[]);
    let expected = Notice::NoEffect { flag: "max-wals", value: "7".to_owned() };
    assert_eq!(start.notices, [expected]);
}

#[test]
fn what_has_no_effect_yet_is_taken_in_and_said() {
    let flags = ["--warning-unary-request-duration=7ms", "--warning-apply-duration=100ms"];
    let start = start(&flags, &[]);
    assert_eq!(start.config.log.slow_request, Duration::from_millis(7));
    let value = "7ms".to_owned();
    let expected = Notice::NotHeeded { flag: "warning-unary-request-duration", value };
    assert_eq!(start.notices, [expected], "a default is not worth a line");
}

#[test]
fn what_is_forgotten_by_itself_is_said_by_two_flags() {
    let flags = ["--auto-compaction-mode=revision", "--auto-compaction-retention=5"];
    let start = start(&flags, &[("ETCD_MAX_TXN_OPS", "7")]);
    assert_eq!(start.config.auto_compaction, AutoCompaction::Revision(5));
    assert_eq!(start.config.limits.txn_ops_max, 7);
    let message = "error parsing CompactionRetention: time: invalid duration \"x\"";
    assert_eq!(refusal(&["--auto-compaction-retention=x"]), (message.to_owned(), 1));
}

#[test]
fn a_variable_stands_for_a_flag() {
    let start = start(&["--heartbeat-interval=50"], &[("ETCD_NAME", "a"), ("PATH", "/bin")]);
    assert_eq!(start.config.name, "a");
    assert_eq!(start.config.data_dir, PathBuf::from("a.etcd"));
    let expected = Notice::VariableUsed { name: "ETCD_NAME".to_owned(), value: "a".to_owned() };
    assert_eq!(start.notices, [expected]);
}

#[test]
fn an_empty_variable_says_nothing() {
    assert_eq!(start(&[], &[("ETCD_NAME", "")]).config.name, "default");
}

#[test]
fn a_flag_and_its_variable_conflict() {
    let error = command(&["--name=a"], &[("ETCD_NAME", "a")], None).expect_err("both were given");
    assert_eq!(error, ConfigError::Shadowed("ETCD_NAME".to_owned()));
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_bad_variable_is_named() {
    let cases = [
        (("ETCD_HEARTBEAT_INTERVAL", "x"), "parse error"),
        (("ETCD_PRE_VOTE", "x"), "parse error"),
        (("ETCD_INITIAL_CLUSTER_STATE", "x"), "invalid value"),
    ];
    for (pair, why) in cases {
        let error = command(&[], &[pair], None).expect_err("x is no value");
        assert_eq!(error.to_string(), format!("invalid value \"x\" for {}: {why}", pair.0));
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let start = start(&[], &[("ETCD_FOO", "x"), ("ETCD_VERSION", "3"), ("ETCD_VERIFY", "all")]);
    let expected = Notice::VariableUnknown { name: "ETCD_FOO".to_owned(), value: "x".to_owned() };
    assert_eq!(start.notices, [expected]);
}

#[test]
fn help_and_version_are_asked_for_in_every_way() {
    for argument in ["-h", "--help", "-help", "--h"] {
        assert_eq!(command(&[argument], &[], None), Ok(Command::Help));
    }
    assert_eq!(command(&["--version"], &[], None), Ok(Command::Version));
    let text = version();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.3");
    assert!(lines[1].starts_with("Git SHA: ") && lines[2].starts_with("Go Version: "));
    assert!(lines[3].starts_with("Go OS/Arch: linux/"));
    assert_eq!(lines[4], format!("ringd Version: {RINGD_VERSION}"));
}

#[test]
fn the_help_names_every_flag_but_the_hidden_ones() {
    let text = help();
    let hidden = ["bench-method", "unsafe-no-fsync"];
    let is_shown = |name: &str| !hidden.contains(&name) && !name.starts_with("experimental-");
    for flag in flags::all().filter(|flag| is_shown(flag.name)) {
        assert!(text.contains(flag.name), "{}", flag.name);
    }
    assert!(!text.contains("bench-method"));
    assert!(text.lines().all(|line| line.len() <= 130), "lines are not endless");
}

#[test]
fn no_flag_is_listed_twice() {
    let mut names: Vec<_> = flags::all().map(|flag| flag.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn sizes_have_bounds() {
    let cases = [
        ("--spin-us=1000001", "--spin-us must be from 0 to 1000000 (got 1000001)"),
        ("--shards=0", "--shards must be from 1 to 256 (got 0)"),
        (
            "--store-segment-bytes=1000",
            "--store-segment-bytes must be from 1048576 to 1073741824 (got 1000)",
        ),
        ("--cache-bytes=0", "--cache-bytes must be from 1048576 to 70368744177664 (got 0)"),
        ("--wal-writes-in-flight=17", "--wal-writes-in-flight must be from 1 to 16 (got 17)"),
        (
            "--wal-segment-bytes=67108865",
            "--wal-segment-bytes must be a multiple of 4096 (got 67108865)",
        ),
        (
            "--max-request-bytes=16777217",
            "--max-request-bytes must be from 1 to 16777216, a quarter of --wal-segment-bytes (got \
             16777217)",
        ),
    ];
    for (argument, message) in cases {
        assert_eq!(refusal(&[argument]), (message.to_owned(), 1));
    }
}

#[test]
fn the_store_has_a_size_in_memory_and_one_of_its_files() {
    let given = config(&["--cache-bytes=0x20000000", "--store-segment-bytes=1048576"]);
    assert_eq!(given.store, Store { cache_bytes: 512 << 20, segment_bytes: 1 << 20 });
    let told_nothing = config(&[]);
    assert_eq!(told_nothing.store, Store { cache_bytes: 256 << 20, segment_bytes: 64 << 20 });
    let quota = start(&["--quota-backend-bytes=5", "--cache-bytes=4194304"], &[]);
    assert_eq!(quota.notices, [], "all of it is heeded");
    let message = "--cache-bytes must be from 4194304 to 70368744177664 (got 4194303)";
    let refused = refusal(&["--shards=4", "--cache-bytes=4194303"]);
    assert_eq!(refused, (message.to_owned(), 1), "each shard has a share");
}

#[test]
fn the_quota_is_a_default_or_a_number() {
    assert_eq!(config(&["--quota-backend-bytes=0"]).limits.quota_bytes, 2 << 30);
    assert_eq!(config(&["--quota-backend-bytes=5"]).limits.quota_bytes, 5);
    assert_eq!(config(&["--quota-backend-bytes=-1"]).limits.quota_bytes, -1);
}

#[test]
fn cores_are_a_count_or_a_list() {
    let cores = |text: &str| config(&[&format!("--cores={text}")]).machine.cores;
    assert_eq!(cores("all"), Cores::All);
    assert_eq!(cores("3"), Cores::Count(3));
    assert_eq!(cores("4-4"), Cores::List(vec![4]));
    assert_eq!(cores("5,0-2,1"), Cores::List(vec![0, 1, 2, 5]));
    for text in ["0", "2-1", "a", "1,", "0-99999999", "-1"] {
        assert_eq!(refusal(&[&format!("--cores={text}")]).1, 2, "{text}");
    }
}

#[test]
fn log_outputs_are_a_list() {
    let outputs = config(&["--log-outputs=stderr,stdout,/tmp/x"]).log.outputs;
    let file = LogOutput::File(PathBuf::from("/tmp/x"));
    assert_eq!(outputs, [LogOutput::Stderr, LogOutput::Stdout, file]);
}

/// `localhost` was told to clients elsewhere.
#[test]
fn a_host_that_others_reach_stands_for_all_addresses() {
    let told = |host, arguments: &[&str]| {
        let Ok(Command::Run(start)) = command_on(host, arguments, &[], None) else {
            panic!("{arguments:?} are right")
        };
        let client = start.config.shards[0].advertise_client_urls.clone();
        let peer = start.config.advertise_peer_urls.clone();
        let [client, peer] = [client, peer].map(|urls| texts(&urls).join(","));
        (client, peer, start)
    };
    let (all, default) = ("http://0.0.0.0:5", "http://localhost:2379");
    let client = ["--listen-client-urls", all, "--advertise-client-urls", default];
    let both = [&client[..], &["--listen-peer-urls=http://0.0.0.0:6"]].concat();
    for (host, url) in [("192.0.2.2", "http://192.0.2.2"), ("fd00::2", "http://[fd00::2]")] {
        let (of_client, of_peer, start) = told(Some(host), &both);
        assert_eq!((of_client, of_peer), (format!("{url}:5"), format!("{url}:6")));
        assert_eq!(start.config.cluster.initial, format!("default={url}:6"));
        assert_eq!(start.notices, [Notice::Host(host.to_owned())]);
    }
    let (of_client, of_peer, start) = told(Some("192.0.2.2"), &client);
    let due = ("http://192.0.2.2:5", "http://localhost:2380");
    assert_eq!((of_client.as_str(), of_peer.as_str()), due);
    assert_eq!(start.config.cluster.initial, "default=http://localhost:2380");
    let (of_client, _, start) = told(None, &client);
    assert_eq!((of_client.as_str(), start.notices), (default, vec![Notice::NoHost]));
    let (one, other) = ("http://127.0.0.1:5", "http://a:2379");
    for [bound, said] in [[all, other], [one, default], ["http://[::]:5", default]] {
        let flags = ["--listen-client-urls", bound, "--advertise-client-urls", said];
        let (of_client, _, start) = told(Some("192.0.2.2"), &flags);
        assert_eq!((of_client.as_str(), start.notices), (said, vec![]), "{bound}");
    }
}

/// The texts of URLs.
fn texts(urls: &[Url]) -> Vec<&str> {
    urls.iter().map(Url::text).collect()
}

#[test]
fn each_shard_has_its_own_urls_and_directories() {
    let three = config(&["--shards=3", "--shard-client-urls=2=http://127.0.0.1:5000"]);
    assert_eq!(texts(&three.shards[0].listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&three.shards[1].listen_client_urls), ["http://localhost:2389"]);
    assert_eq!(texts(&three.shards[1].advertise_client_urls), ["http://localhost:2389"]);
    assert_eq!(texts(&three.shards[2].advertise_client_urls), ["http://127.0.0.1:5000"]);
    assert_eq!(three.shard_wal_dir(ShardId(2)), PathBuf::from("default.etcd/shard-2/wal"));
    let apart = config(&["--wal-dir=/fast"]);
    assert_eq!(apart.shard_wal_dir(ShardId(0)), PathBuf::from("/fast/shard-0"));
    assert_eq!(apart.shards().map(|(shard, _)| shard).collect::<Vec<_>>(), [ShardId(0)]);
}

#[test]
fn shards_do_not_share_an_address_nor_run_out_of_ports() {
    let (message, _) = refusal(&["--shards=2", "--shard-client-urls=1=http://127.0.0.1:2379"]);
    assert_eq!(message, "shards 0 and 1 both listen on http://127.0.0.1:2379: give each its own");
    let (message, _) = refusal(&["--shard-client-urls=1=http://127.0.0.1:5000"]);
    assert!(message.starts_with("--shard-client-urls names shard 1, but --shards is 1"));
    let last =
        ["--listen-client-urls=http://127.0.0.1:65530", "--advertise-client-urls=http://a:1"];
    let (message, _) = refusal(&[&last[..], &["--shards=2"]].concat());
    assert!(message.starts_with("shard 1 has no port left"), "{message}");
    let any = ["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://a:0"];
    let shards = config(&[&any[..], &["--shards=2"]].concat()).shards;
    assert_eq!(shards[0], shards[1], "any port is a port of one's own");
}

#[test]
fn a_file_replaces_flags_and_variables() {
    let text = "name: z\nheartbeat-interval: 50\ngrpc-keepalive-min-time: 7000000000\n\
                log-outputs: [stderr, stdout]\nsocket-options:\n  reuse-port: true\n";
    let given = ["--config-file=node.yml", "--name=y"];
    let Ok(Command::Run(start)) = command(&given, &[("ETCD_PRE_VOTE", "0")], Some(text)) else {
        panic!("the file is whole")
    };
    assert_eq!(start.config.name, "z");
    assert!(start.config.raft.pre_vote);
    assert_eq!(start.config.connections.keepalive_min_time, Duration::from_secs(7));
    assert_eq!(start.config.log.outputs.len(), 2);
    assert!(start.config.connections.reuse_port);
    assert_eq!(start.notices, [Notice::File("node.yml".to_owned())]);
}

#[test]
fn a_file_may_be_json_and_may_be_empty() {
    assert_eq!(from_file(r#"{"name": "j"}"#).expect("JSON is YAML").name, "j");
    assert_eq!(from_file("").expect("nothing said"), Config::default());
    assert_eq!(from_file("name:\nwal-dir:\n").expect("nothing said"), Config::default());
}

#[test]
fn the_sample_file_of_etcd_is_read_where_it_asks_for_nothing_we_lack() {
    let text = "client-transport-security:\n  cert-file:\n  client-cert-auth: false\n  auto-tls: \
                false\npeer-transport-security:\n  key-file: ''\n  allowed-cn:\n\
                discovery-fallback: 'exit'\ndiscovery:\nenable-pprof: false\n\
                auto-compaction-mode: periodic\nauto-compaction-retention: \"0\"\ncors:\n";
    assert_eq!(from_file(text).expect("all defaults"), Config::default());
}

/// Files of earlier etcds, which have such keys, were refused.
#[test]
fn keys_of_a_file_that_nobody_knows_are_passed_over_and_said() {
    let text = "nmae: x\nproxy: 'off'\nenable-v2: [1]\nversion: true\nName: a\nsocket-options:\n  \
                x: 1\n  REUSE-port: true\ndiscovery-config:\n  x:\n";
    let Ok(Command::Run(start)) = command(&["--config-file=node.yml"], &[], Some(text)) else {
        panic!("the file is whole")
    };
    assert_eq!(start.config.name, "a", "capitals are letters as well");
    assert!(start.config.connections.reuse_port);
    let unknown = |(key, nearest): (&str, Option<&'static str>)| {
        let key = key.to_owned();
        Notice::KeyUnknown { key, nearest }
    };
    let due = [
        ("nmae", Some("name")),
        ("proxy", None),
        ("enable-v2", None),
        ("version", None),
        ("socket-options.x", None),
        ("discovery-config.x", None),
    ];
    let due: Vec<_> = due.into_iter().map(unknown).collect();
    assert_eq!(start.notices.split_last().expect("the file at least").1, due);
}

#[test]
fn the_file_may_be_named_in_the_environment() {
    let environment = [("ETCD_CONFIG_FILE", "node.yml"), ("ETCD_NAME", "y")];
    let Ok(Command::Run(start)) = command(&[], &environment, Some("name: z")) else {
        panic!("the file is whole")
    };
    assert_eq!(start.config.name, "z");
}

#[test]
fn a_bad_file_names_path_key_and_what_was_expected() {
    let cases = [
        (
            "heartbeat-interval: x",
            "node.yml: heartbeat-interval: cannot take \"x\": expected a whole number, not \
             negative",
        ),
        ("name: [[1]]", "node.yml: name: cannot take a list: expected a list of texts"),
        ("pre-vote: 1", "node.yml: pre-vote: cannot take 1: expected true or false"),
        (
            "grpc-keepalive-min-time: 5s",
            "node.yml: grpc-keepalive-min-time: cannot take \"5s\": expected a whole number of \
             nanoseconds",
        ),
        (
            "client-transport-security:\n  cert-file: a.pem",
            "--cert-file=a.pem is not implemented yet in ringd (remove it, or use its default)",
        ),
        ("- a", "node.yml: expected keys and values"),
        ("heartbeat-interval: 0", "--heartbeat-interval must be >0 (set to 0ms)"),
    ];
    for (text, message) in cases {
        assert_eq!(from_file(text).expect_err(text).to_string(), message);
    }
    let error = command(&["--config-file=node.yml"], &[], None).expect_err("there is none");
    assert_eq!(error.to_string(), "open node.yml: no such file or directory");
}

#[test]
fn a_new_cluster_of_one_has_etcds_ids() {
    let found = config(&[]).bootstrap().expect("the defaults found a cluster");
    assert_eq!(found.node, NodeId(0x8e9e_05c5_2164_694d));
    assert_eq!(found.cluster, ClusterId(0xcdf8_1819_4e3a_8c32));
    let found = config(&["--name=other"]).bootstrap().expect("the name is filled in");
    assert_eq!(found.members[0].name, "other");
    let two = "http://127.0.0.1:23801,http://127.0.0.1:23701";
    let found = config(&[
        "--name=infra0",
        "--initial-cluster-token=tkn",
        &format!("--initial-advertise-peer-urls={two}"),
    ]);
    assert_eq!(found.bootstrap().expect("one member").node, NodeId(0xa658_9b28_00d8_e5ff));
}

#[test]
fn a_cluster_that_cannot_be_founded_is_refused_in_etcds_words() {
    let cases = [
        (
            "b=http://localhost:2380",
            "couldn't find local name \"a\" in the initial cluster configuration",
        ),
        (
            "a=http://localhost:2390",
            "--initial-cluster has a=http://localhost:2390 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \
             \"http://localhost:2380\" != \"http://localhost:2390\")",
        ),
        (
            "a=http://localhost:2380,a=http://localhost:2390",
            "--initial-cluster has a=http://localhost:2390 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380 \
             (len([\"http://localhost:2380\"]) != len([\"http://localhost:2380\" \
             \"http://localhost:2390\"]))",
        ),
        (
            "a=http://localhost:2380,b=http://localhost:2380",
            "initial cluster a=http://localhost:2380,b=http://localhost:2380 has duplicate url",
        ),
        ("a", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "),
    ];
    for (initial, message) in cases {
        let node = config(&["--name=a", &format!("--initial-cluster={initial}")]);
        let error = node.bootstrap().expect_err(initial);
        assert_eq!(error.to_string(), message);
    }
}

/// Such names were taken, written to the members' state, and then not read.
#[test]
fn what_members_could_not_keep_is_refused() {
    let long = "x".repeat(MEMBER_TEXT_SIZE_MAX + 1);
    let urls = |count: usize| {
        let urls = (0..count).map(|nth| format!("http://h:{}", nth + 1));
        urls.collect::<Vec<_>>().join(",")
    };
    let cases = [
        (format!("--name={long}"), "--name gives a name of 4097 bytes; members keep 4096"),
        (
            format!("--initial-advertise-peer-urls={}", urls(65)),
            "--initial-advertise-peer-urls gives 65 URLs of one member; members keep 64",
        ),
        (
            format!("--advertise-client-urls=http://{long}:1"),
            "--advertise-client-urls gives a URL of 4106 bytes",
        ),
    ];
    for (flag, due) in cases {
        let refused = command(&[&flag], &[], None).expect_err(due).to_string();
        assert!(refused.starts_with(due), "{refused}");
    }
    assert!(command(&[&format!("--advertise-client-urls={}", urls(64))], &[], None).is_ok());
    let own = "a=http://localhost:2380";
    let others = |count| {
        let others = (0..count).map(|nth| format!(",n{nth}=http://h:{}", nth + 1));
        others.collect::<String>()
    };
    let of_one = (1..=65).map(|port| format!(",b=http://h:{port}")).collect::<String>();
    let cases = [
        (others(MEMBERS_MAX), "--initial-cluster gives 65 members; members keep 64"),
        (format!(",{long}=http://h:1"), "--initial-cluster gives a name of 4097 bytes"),
        (of_one, "--initial-cluster gives 65 URLs of one member"),
    ];
    for (more, due) in cases {
        let node = config(&["--name=a", &format!("--initial-cluster={own}{more}")]);
        let refused = node.bootstrap().expect_err(due).to_string();
        assert!(refused.starts_with(due), "{refused}");
    }
    let most = format!("--initial-cluster={own}{}", others(MEMBERS_MAX - 1));
    assert!(config(&["--name=a", &most]).bootstrap().is_ok());
}

/// The flags of member `name` of three, of whom nobody has said anything.
fn of_three(name: &str, more: &[&str]) -> Config {
    let port = |name: &str| 2480 + u16::from(name.as_bytes()[0] - b'a');
    let listed = |name| format!("{name}=http://127.0.0.1:{}", port(name));
    let all = ["a", "b", "c"].map(listed).join(",");
    let own = format!("--initial-advertise-peer-urls=http://127.0.0.1:{}", port(name));
    let (name, all) = (format!("--name={name}"), format!("--initial-cluster={all}"));
    config(&[&[name.as_str(), &all, &own, "--initial-cluster-token=t"], more].concat())
}

/// What the first member of three says once `up` of them have served.
fn told(config: &Config, up: usize) -> (Url, Roll) {
    let found = config.bootstrap().expect("three");
    let listed = |(at, member): (usize, &InitialMember)| Listed {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.iter().map(Url::to_string).collect(),
        client_urls: (at < up).then(|| "http://c:1".to_owned()).into_iter().collect(),
        learner: false,
    };
    let members: Vec<_> = found.members.iter().enumerate().map(listed).collect();
    let (version, shards) = (Some(RINGD_VERSION.to_owned()), Some(1));
    let peer = Url::parse("http://127.0.0.1:2480").expect("whole");
    let heard = Vec::new();
    let (cluster, founders) = (found.cluster, found.founders);
    (peer, Roll { cluster, version, shards, members, heard, founders })
}

#[test]
fn three_members_found_one_cluster() {
    let founded = ["a", "b", "c"].map(|name| of_three(name, &[]).bootstrap().expect("a cluster"));
    for one in &founded {
        assert_eq!((&one.members, one.cluster), (&founded[0].members, founded[0].cluster));
        assert!(!one.joins && one.members.is_sorted_by_key(|member| member.id));
    }
    let own: std::collections::BTreeSet<_> = founded.iter().map(|one| one.node).collect();
    assert!(own.iter().eq(founded[0].members.iter().map(|member| &member.id)));
    let asked = of_three("b", &[]).peers().expect("two");
    assert_eq!(texts(&asked), ["http://127.0.0.1:2480", "http://127.0.0.1:2482"]);
    assert!(of_three("a", &[]).bootstrap_among(&[told(&founded_by("a"), 0)]).is_ok());
}

/// As [`of_three`], of a new cluster.
fn founded_by(name: &str) -> Config {
    of_three(name, &[])
}

#[test]
fn a_member_that_has_been_up_does_not_begin_anew() {
    let config = of_three("b", &[]);
    let found = config.bootstrap().expect("three");
    let told = told(&config, 3);
    let refused =
        config.bootstrap_among(slice::from_ref(&told)).expect_err("it has been up").to_string();
    let due = format!("member {:x} has already been bootstrapped", found.node.0);
    assert!(refused.starts_with(&due), "{refused}");
    let joins = of_three("b", &["--initial-cluster-state=existing"]);
    let refused =
        joins.bootstrap_among(slice::from_ref(&told)).expect_err("it has been up").to_string();
    assert!(refused.starts_with(&due), "{refused}");
    let (peer, mut roll) = told;
    roll.members.iter_mut().for_each(|member| member.client_urls.clear());
    assert!(config.bootstrap_among(&[(peer.clone(), roll.clone())]).is_ok());
    roll.heard.push(found.node);
    let heard = (peer.clone(), roll.clone());
    let refused =
        config.bootstrap_among(slice::from_ref(&heard)).expect_err("it was heard").to_string();
    assert!(refused.starts_with(&due), "{refused}");
    // It is enough that one of them knows, whoever answers first.
    let mut silent = heard.clone();
    silent.1.heard.clear();
    for told in [[silent.clone(), heard.clone()], [heard, silent]] {
        for config in [&config, &joins] {
            let refused = config.bootstrap_among(&told).expect_err("it was heard").to_string();
            assert!(refused.starts_with(&due), "{refused}");
        }
    }
    roll.members.retain(|member| member.id != found.node);
    let refused = config.bootstrap_among(&[(peer, roll)]).expect_err("it is gone").to_string();
    assert!(refused.contains("has been removed from cluster"), "{refused}");
}

#[test]
fn a_peer_of_another_kind_is_named() {
    let config = of_three("a", &[]);
    let (peer, roll) = told(&config, 0);
    let cases = [
        (Roll { shards: Some(3), ..roll.clone() }, "hosts 3 shards and --shards asks for 1"),
        (Roll { version: Some("9.0.0".to_owned()), ..roll.clone() }, "is ringd 9.0.0"),
        (Roll { version: None, ..roll.clone() }, "is not a ringd"),
        (Roll { cluster: ClusterId(5), ..roll }, "is of cluster 5, and"),
    ];
    for (roll, due) in cases {
        let told = (peer.clone(), roll);
        let refused = config.bootstrap_among(slice::from_ref(&told)).expect_err(due).to_string();
        assert!(refused.contains(due) && refused.contains("http://127.0.0.1:2480"), "{refused}");
    }
}

#[test]
fn a_member_that_joins_learns_its_id() {
    let config = of_three("c", &["--initial-cluster-state=existing"]);
    assert_eq!(config.bootstrap(), Err(ConfigError::NoPeer));
    let (peer, mut roll) = told(&of_three("c", &[]), 3);
    let at = roll.members.iter().position(|member| member.name == "c").expect("it is there");
    let listed = &mut roll.members[at];
    (listed.id, listed.name, listed.learner) = (NodeId(7), String::new(), true);
    listed.client_urls.clear();
    let found = config.bootstrap_among(&[(peer.clone(), roll.clone())]).expect("it joins");
    assert_eq!((found.node, found.cluster, found.joins), (NodeId(7), roll.cluster, true));
    assert_eq!(found.founders, of_three("c", &[]).bootstrap().expect("three").founders);
    assert!(found.members.is_sorted_by_key(|member| member.id));
    assert_eq!((found.members[0].name.as_str(), found.members[0].learner), ("c", true));
    assert_eq!(found.members[1].client_urls, ["http://c:1"]);

    let mut apart = roll.clone();
    apart.members[at].peer_urls = vec!["http://127.0.0.1:9".to_owned()];
    let refused = config.bootstrap_among(&[(peer.clone(), apart)]).expect_err("unlike");
    let due = "PeerURLs: no match found for existing member (7, [http://127.0.0.1:9]), last \
               resolver error (resolved urls: \"http://127.0.0.1:9\" != ";
    assert!(refused.to_string().contains(due), "{refused}");
    roll.members.pop();
    let refused = config.bootstrap_among(&[(peer, roll)]).expect_err("one is missing");
    let text = refused.to_string();
    assert!(text.starts_with("error validating peerURLs {ClusterID:"), "{text}");
    assert!(text.ends_with("RemovedMemberIDs:[]}: member count is unequal"), "{text}");
}

#[test]
fn what_a_group_of_nodes_is_told() {
    let flags = [
        "--snapshot-count=0",
        "--snapshot-catchup-entries=7",
        "--max-learners=0",
        "--learner-auto-promote",
        "--initial-election-tick-advance=false",
        "--force-new-cluster",
    ];
    let config = config(&flags);
    assert_eq!((config.raft.snapshot_count, config.raft.snapshot_catchup_entries), (0, 7));
    assert_eq!((config.raft.learners_max, config.raft.learner_auto_promote), (0, true));
    assert!(!config.raft.election_tick_advance && config.cluster.force_new);
    let due = "membership: too many learner members in cluster".to_owned();
    assert_eq!(refusal(&["--max-learners=-1"]), (due, 1));
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Text from outside is parsed, whatever it is.
        #[test]
        fn no_command_line_and_no_file_panics(
            words in prop::collection::vec("-{0,2}[a-z0-9=,:/.-]{0,20}", 0..6),
            text in "\\PC{0,80}",
        ) {
            let arguments: Vec<_> = words.iter().map(String::as_str).collect();
            let _ = command(&arguments, &[], Some(""));
            let _ = from_file(&text);
        }

        #[test]
        fn no_value_of_any_flag_panics(
            flag in prop::sample::select(flags::all().map(|flag| flag.name).collect::<Vec<_>>()),
            value in "[0-9a-z=,:/.\\[\\]-]{0,24}",
        ) {
            if flag != "config-file" {
                let _ = command(&[&format!("--{flag}={value}")], &[], None);
            }
        }
    }
}

#[test]
fn feature_gates_are_etcds() {
    let is_on = |text: &str| config(&["--feature-gates", text]).features.lease_checkpoint;
    assert!(is_on("LeaseCheckpoint=true") && is_on(" LeaseCheckpoint = 1 ,,"));
    assert!(is_on("LeaseCheckpointPersist=true,LeaseCheckpoint=true"));
    assert!(!is_on("LeaseCheckpoint=true,LeaseCheckpoint=false") && !is_on("AllAlpha=false"));
    let twice = ["--feature-gates=LeaseCheckpoint=true", "--feature-gates=AllBeta=true"];
    assert!(config(&twice).features.lease_checkpoint);
    let value = |text: &str, why: &str| {
        (format!("invalid value {text:?} for flag -feature-gates: {why}"), 2)
    };
    let later = |gate: &str| {
        let advice = "is not implemented yet in ringd (remove it, or use its default)";
        (format!("--feature-gates={gate} {advice}"), 1)
    };
    let cases = [
        ("Nope=true", value("Nope=true", "unrecognized feature gate: Nope")),
        (
            "leasecheckpoint=true",
            value("leasecheckpoint=true", "unrecognized feature gate: leasecheckpoint"),
        ),
        ("LeaseCheckpoint", value("LeaseCheckpoint", "missing bool value for LeaseCheckpoint")),
        (
            "AllBeta=maybe",
            value(
                "AllBeta=maybe",
                "invalid value of AllBeta=maybe, err: strconv.ParseBool: parsing \"maybe\": \
                 invalid syntax",
            ),
        ),
        (
            "LeaseCheckpointPersist=true",
            (
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                 LeaseCheckpoint"
                    .to_owned(),
                1,
            ),
        ),
        ("PriorityRequest=true", later("PriorityRequest=true")),
        ("AllAlpha=true", later("CompactHashCheck=true")),
    ];
    for (text, due) in cases {
        assert_eq!(refusal(&["--feature-gates", text]), due, "{text}");
    }
    let inert = start(&["--feature-gates=AllBeta=false,FastLeaseKeepAlive=true"], &[]);
    let value = "TxnModeWriteWithSharedBuffer=false".to_owned();
    assert_eq!(inert.notices, [Notice::NoEffect { flag: "feature-gates", value }]);
}

#[test]
fn flags_of_an_earlier_etcd_stand_for_gates() {
    let flag = "experimental-enable-lease-checkpoint";
    let start = start(&[&format!("--{flag}")], &[]);
    assert!(start.config.features.lease_checkpoint);
    assert_eq!(start.notices, [Notice::Former { flag, instead: "--feature-gates" }]);
    let file = from_file("feature-gates: LeaseCheckpoint=true");
    assert_eq!(file.map(|config| config.features.lease_checkpoint), Ok(true));
}
