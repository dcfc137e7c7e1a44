//! Runs what was chosen: database by database, so that only one server runs, and in interleaved rounds, so that what
//! changes on the machine meanwhile meets every contestant alike.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::contestant::{self, Contestant};
use crate::database::{Kind, Server};
use crate::results::{Record, Results};
use crate::workload::Case;
use crate::workloads::{self, Workload};
use crate::{Arguments, Result, machine};

const DATABASES: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::Mariadb];

pub(crate) fn all(arguments: &Arguments) -> Result<Results> {
    let begin = Instant::now();
    let scale = arguments.scale();
    let rounds = arguments.rounds.unwrap_or_else(|| scale.pick(1, 3, 5));
    let mut records = Vec::new();
    let mut versions = BTreeMap::new();
    let chosen = |database: &&Kind| arguments.database.is_empty() || arguments.database.contains(database);
    for &database in DATABASES.iter().filter(chosen) {
        let contestants = contestants(arguments, database, &mut versions)?;
        if contestants.is_empty() {
            continue;
        }
        let server = Server::start(database)?;
        versions.insert(database.to_string(), server.version()?);
        for round in 1..=rounds {
            for workload in workloads::ALL.iter().filter(|w| is_chosen(&arguments.workload, w.name)) {
                println!(
                    "\n{database}, round {round}: {} ({}). {}",
                    workload.title, workload.name, workload.about
                );
                for case in (workload.cases)(scale, database) {
                    measure(&server, workload, &case, round, &contestants, &mut records);
                }
            }
        }
    }
    Ok(Results {
        command: std::iter::once("cargo xtask bench".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        date: machine::date()?,
        scale,
        rounds,
        minutes: begin.elapsed().as_secs_f64() / 60.0,
        machine: machine::description()?,
        versions,
        records,
    })
}

fn is_chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|n| n == name)
}

/// Builds those that were chosen.
fn contestants(
    arguments: &Arguments,
    database: Kind,
    versions: &mut BTreeMap<String, String>,
) -> Result<Vec<Contestant>> {
    let only =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    let mut contestants: Vec<Contestant> =
        contestant::own()?.into_iter().filter(|own| only(&own.name)).collect();
    for peer in contestant::peers()? {
        if peer.is_on(database) && only(&peer.name) {
            println!("building {}: {}", peer.name, peer.settings);
            let mut version = peer.version()?;
            match peer.contestant(database) {
                Ok(contestant) => contestants.push(contestant),
                // The others are worth measuring all the same.
                Err(error) => {
                    println!("{} is left out: {error}", peer.name);
                    version += " (could not be built, so left out)";
                }
            }
            versions.insert(peer.name, version);
        }
    }
    Ok(contestants)
}

fn measure(
    server: &Server,
    workload: &Workload,
    case: &Case,
    round: u32,
    contestants: &[Contestant],
    records: &mut Vec<Record>,
) {
    let database = server.kind();
    for contestant in contestants {
        let left_out =
            contestant.without.iter().any(|without| without == workload.name || *without == case.name);
        if !case.measures(contestant, round) || left_out {
            continue;
        }
        let outcome = (case.run)(server, contestant);
        let (measures, problem) = match outcome {
            Ok(measures) => (measures, None),
            Err(error) => (BTreeMap::new(), Some(error.to_string())),
        };
        let shown = match &problem {
            Some(problem) => problem.clone(),
            None => measures
                .iter()
                .map(|(name, value)| format!("{name} {value:.2}"))
                .collect::<Vec<_>>()
                .join("  "),
        };
        println!("{:<38} {:<24} {shown}", case.name, contestant.name);
        records.push(Record {
            workload: workload.name.to_owned(),
            case: case.name.clone(),
            database,
            contestant: contestant.name.clone(),
            round,
            measures,
            problem,
        });
    }
}
