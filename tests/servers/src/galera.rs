use std::path::Path;
use std::process::Command;

use crate::program::output;
use crate::{Durability, Error, Mariadb, Result};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// A MariaDB Galera cluster: several servers that each take writes.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<Mariadb>,
    options: String,
}

impl Galera {
    /// Starts a cluster of so many nodes, with options of the provider besides, as `wsrep_provider_options` has them, and
    /// waits until each takes connections and has what the others have.
    ///
    /// # Errors
    /// When MariaDB or Galera is not installed, or a node does not start; the error has the end of its log.
    pub fn start(nodes: usize, options: &str) -> Result<Self> {
        if !Self::is_installed() {
            return Err(Error::Missing { program: PROVIDER, package: "galera-4" });
        }
        let nodes = (0..nodes).map(|_| Mariadb::prepare(Durability::default())).collect::<Result<_>>()?;
        let mut cluster = Self { nodes, options: options.to_owned() };
        let Some(first) = cluster.nodes.first() else { return Ok(cluster) };
        first.initialize()?;
        // Stopped in order, it knows where it is; copies of it need nothing from it when they join.
        cluster.set(0, &["--wsrep-new-cluster"]);
        cluster.nodes[0].serve()?;
        cluster.nodes[0].stop()?;
        let data = cluster.nodes[0].folder().join("data");
        for node in &cluster.nodes[1..] {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(&data).arg(node.folder());
            output(&mut node.as_account(copy))?;
        }
        cluster.nodes[0].serve()?;
        for at in 1..cluster.nodes.len() {
            cluster.set(at, &[]);
            cluster.nodes[at].serve()?;
        }
        Ok(cluster)
    }

    /// Whether Galera is there. (MariaDB: [`Mariadb::is_installed`].)
    pub fn is_installed() -> bool {
        Path::new(PROVIDER).is_file()
    }

    /// One of the nodes, from 0.
    pub fn node(&self, at: usize) -> &Mariadb {
        &self.nodes[at]
    }

    /// Ends a node as an out-of-memory kill does.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill9(&mut self, at: usize) -> Result<()> {
        self.nodes[at].kill9()
    }

    /// Cuts a node off from the other nodes, though not from its clients, or lets it be one of them again.
    ///
    /// # Errors
    /// What the client wrote.
    pub fn isolate(&self, at: usize, isolated: bool) -> Result<()> {
        let set = format!("SET GLOBAL wsrep_provider_options = 'gmcast.isolate={}'", i32::from(isolated));
        self.nodes[at].sql("mysql", &set).map(drop)
    }

    /// Starts a node again that was killed; the others give it what it has missed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self, at: usize) -> Result<()> {
        let position = self.nodes[at].recovered_position()?;
        self.set(at, &[&format!("--wsrep-start-position={position}")]);
        self.nodes[at].serve()
    }

    /// The four addresses of a node are on the one port that it has reserved.
    fn set(&mut self, at: usize, more: &[&str]) {
        let ports = self.nodes.iter().map(|node| format!("127.0.0.2:{}", node.port()));
        let cluster = ports.collect::<Vec<_>>().join(",");
        let port = self.nodes[at].port();
        let provider = format!(
            "gmcast.listen_addr=tcp://127.0.0.2:{port};ist.recv_addr=127.0.0.3:{port};gcache.size=64M;{}",
            self.options
        );
        let options = [
            "--wsrep-on=ON".to_owned(),
            format!("--wsrep-provider={PROVIDER}"),
            format!("--wsrep-cluster-address=gcomm://{cluster}"),
            "--wsrep-node-address=127.0.0.2".to_owned(),
            format!("--wsrep-provider-options={provider}"),
            format!("--wsrep-sst-receive-address=127.0.0.4:{port}"),
            "--wsrep-sst-method=rsync".to_owned(),
            "--wsrep-slave-threads=2".to_owned(),
            "--binlog-format=ROW".to_owned(),
            "--innodb-autoinc-lock-mode=2".to_owned(),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.nodes[at].set(&options);
    }
}

impl Mariadb {
    /// How far a node that was killed had come, as its own recovery tells.
    fn recovered_position(&self) -> Result<String> {
        let log = self.folder().join("recovery.err");
        let mut recover = self.serve_command();
        recover.args(["--wsrep-recover", &format!("--log-error={}", log.display())]);
        output(&mut self.as_account(recover))?;
        let text = std::fs::read_to_string(&log).map_err(Error::os(format!("read {}", log.display())))?;
        let position = text.lines().filter_map(|line| line.split("Recovered position: ").nth(1)).next_back();
        position.map(|position| position.trim().to_owned()).ok_or(Error::NotReady {
            server: "MariaDB",
            problem: "did not tell where it had come to".to_owned(),
            log: text,
        })
    }
}
