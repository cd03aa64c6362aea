//! Nodes on machines of their own, as far as the network knows: namespaces, joined by a bridge, whose lines are slow,
//! lose packets, and are cut in one direction or both.
//!
//! The test makes the namespaces and runs itself again in one of them ([`within`]). All addresses are in namespaces of
//! its own, which are gone with it. Where the system does not let it, or lacks a kind of line, it says so loudly.

use super::{
    load::{Load, Rate, status_of},
    starved::{run, skipped},
};
use memdb::base::position::Position;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::{
    client::Counts,
    process::{Node, Start},
    wait_for,
};

const NAMES: [&str; 4] = ["h", "l", "r", "s"];
/// What an address that nobody has leads to.
const NOWHERE: &str = "02:00:00:00:00:99";

fn ip(arguments: &str) -> Result<(), String> {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// A harness and three nodes, each in its namespace, at 10.99.0.1 and behind.
struct Machines(String);

impl Machines {
    fn new() -> Result<Self, String> {
        let machines = Self(format!("memdb{}", std::process::id()));
        let prefix = &machines.0;
        for name in NAMES {
            ip(&format!("netns add {prefix}{name}"))?;
            ip(&format!("-n {prefix}{name} link set lo up"))?;
        }
        ip(&format!("-n {prefix}h link add bridge type bridge"))?;
        ip(&format!("-n {prefix}h addr add 10.99.0.1/24 dev bridge"))?;
        ip(&format!("-n {prefix}h link set bridge up"))?;
        for (at, name) in NAMES.iter().enumerate().skip(1) {
            ip(&format!("-n {prefix}{name} link add line type veth peer name to{name} netns {prefix}h"))?;
            ip(&format!("-n {prefix}{name} addr add 10.99.0.{}/24 dev line", at + 1))?;
            ip(&format!("-n {prefix}{name} link set line up"))?;
            ip(&format!("-n {prefix}h link set to{name} master bridge up"))?;
        }
        Ok(machines)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in NAMES {
            let _ = ip(&format!("netns del {}{name}", self.0)); // it may not have been made
        }
    }
}

#[test]
fn lines_between_machines_are_cut_and_mended() {
    let machines = match Machines::new() {
        Ok(machines) => machines,
        Err(why) => return skipped(&format!("nodes in network namespaces: {why}")),
    };
    let this = std::env::current_exe().expect("a program");
    let (_, module) = module_path!().split_once("::").expect("a module of the test binary");
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &format!("{}h", machines.0)])
        .arg(this)
        .args(["--ignored", "--exact", &format!("{module}::within"), "--nocapture"])
        .env("MEMDB_NAMESPACES", &machines.0)
        .output();
    let output = output.expect("ip is there");
    let said = String::from_utf8_lossy(&output.stdout);
    // A name that is no test's would run nothing, and succeed.
    let is_run = said.contains("1 passed");
    assert!(output.status.success() && is_run, "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// Packets from one machine to another lead nowhere.
fn cut(prefix: &str, from: &str, to: &str) {
    let address = address(to);
    let cut = ip(&format!("-n {prefix}{from} neigh replace {address} lladdr {NOWHERE} dev line nud permanent"));
    cut.expect("it is this test's namespace");
}

fn mend(prefix: &str, from: &str, to: &str) {
    ip(&format!("-n {prefix}{from} neigh del {} dev line", address(to))).expect("it was cut");
}

fn address(name: &str) -> String {
    let at = NAMES.iter().position(|each| *each == name).expect("one of them");
    format!("10.99.0.{}", at + 1)
}

/// Makes a machine's line a bad one; `false`, loudly, if this system cannot.
fn spoil(prefix: &str, name: &str, how: &str) -> bool {
    let all = format!("netns exec {prefix}{name} tc qdisc replace dev line root {how}");
    match ip(&all) {
        Ok(()) => true,
        Err(why) => {
            skipped(&format!("a line with {how}: {why}"));
            false
        }
    }
}

fn is_away(leader: &Node, url: &str) -> bool {
    let status = status_of(leader);
    let replicas = status["replicas"].as_array().cloned().unwrap_or_default();
    replicas.iter().any(|replica| replica["url"] == *url && replica["state"] == "away")
}

/// What is done in the namespaces; [`lines_between_machines_are_cut_and_mended`] runs it.
#[test]
#[ignore = "runs within the namespaces that another test makes"]
fn within() {
    let Ok(prefix) = std::env::var("MEMDB_NAMESPACES") else { return };
    let directories = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let secret = directories[0].path().join("secret");
    std::fs::write(&secret, "the-secret-of-these-namespaces").expect("written");
    let at = |start: Start, name: &str| {
        let open = ["--insecure", "--cluster-secret-file", secret.to_str().expect("UTF-8")];
        start.within(&format!("{prefix}{name}")).with(&["--bind", &address(name)]).with(&open)
    };
    let data = |at: usize| directories[at].path().join("data");
    let leader = at(Start::leader(&data(0)), "l").with(&["--ack-timeout-ms", "300"]).run();
    let replicas = [at(Start::replica(&leader), "r").run(), at(Start::replica(&leader).data(&data(1)), "s").run()];
    leader.until_connected(2);
    let nodes = [&leader, &replicas[0], &replicas[1]];
    let rate = Rate {
        writers: 6,
        readers: 3,
        entry_clients: 0,
        pause: Duration::from_millis(5),
        all_kinds: true,
        counters: false,
    };
    let load = Load::start(&nodes, (Position::ZERO, &Counts::new()), rate, 1);

    let cuts: [(&str, &[(&str, &str)]); 4] = [
        ("the leader's packets do not reach a replica", &[("l", "r")]),
        ("a replica's packets do not reach the leader", &[("r", "l")]),
        ("neither reaches the other", &[("l", "r"), ("r", "l")]),
        ("the leader reaches no replica", &[("l", "r"), ("l", "s")]),
    ];
    for (what, lines) in cuts {
        for (from, to) in lines {
            cut(&prefix, from, to);
        }
        let cut_off =
            [&replicas[0], &replicas[1]].into_iter().take(lines.iter().filter(|line| line.0 == "l").count().max(1));
        for replica in cut_off {
            wait_for("it is away", || is_away(&leader, &replica.url).then_some(()));
        }
        load.until_more(30);
        for (from, to) in lines {
            mend(&prefix, from, to);
        }
        rest(&load, &nodes, what);
    }
    let slow = "tbf rate 1mbit burst 5kb limit 8kb"; // beyond which packets are lost
    for how in [slow, "netem delay 30ms 20ms", "netem loss 10%", "netem delay 10ms duplicate 5% reorder 20%"] {
        let machines = ["l", "r", "s"];
        if !machines.iter().all(|name| spoil(&prefix, name, how)) {
            continue;
        }
        load.until_more(100);
        for name in machines {
            ip(&format!("netns exec {prefix}{name} tc qdisc del dev line root")).expect("it was there");
        }
        rest(&load, &nodes, how);
    }
    println!("{}", load.told());
}

/// Lets all come to rest once the lines are sound.
fn rest(load: &Load, nodes: &[&Node], what: &str) {
    let mended = Instant::now();
    let (checked, took) = load.check(load.quiet(), nodes);
    println!(
        "{what}: equal {} ms after the line was mended, {} ms after the last answer; {checked:?}",
        mended.elapsed().as_millis(),
        took.as_millis()
    );
}
