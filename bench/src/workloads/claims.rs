use crate::database::Kind;
use crate::process;
use crate::workload::{Case, Measures, Rounds, Scale, TASKMQ, percentile, prepared, words};

pub(super) fn cases(scale: Scale, _database: Kind) -> Vec<Case> {
    let case = |name: String, arguments: String| {
        Case::new(name, TASKMQ, move |server, contestant| {
            let database = prepared(server, contestant)?;
            let mut micros = process::micros(contestant, &database, &words(&format!("claims {arguments}")))?;
            micros.sort_unstable();
            Ok(Measures::from([("p50_ms".to_owned(), percentile(&micros, 0.5) / 1000.0)]))
        })
        .own(Rounds::First)
    };
    let waiting: &[u64] =
        scale.pick(&[1_000, 100_000], &[1_000, 100_000, 1_000_000], &[1_000, 100_000, 1_000_000, 10_000_000]);
    let others = scale.pick(100_000, 1_000_000, 1_000_000);
    let passed_by = [
        ("scheduled", "scheduled for next month"),
        ("foreign", "of another topic"),
        ("lower", "of a lower priority"),
    ];
    let sizes = waiting.iter().map(|number| case(format!("{number} waiting"), format!("--waiting {number}")));
    let obstacles = passed_by.iter().map(|(kind, what)| {
        case(
            format!("1000 waiting, {others} {what}"),
            format!("--waiting 1000 --others {others} --kind {kind}"),
        )
    });
    sizes.chain(obstacles).collect()
}
