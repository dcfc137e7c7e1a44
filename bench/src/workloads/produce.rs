use crate::database::Kind;
use crate::process;
use crate::workload::{Case, Measures, NO_VARIANTS, Rounds, Scale, float, prepared, words};

pub(super) fn bulk(scale: Scale, _database: Kind) -> Vec<Case> {
    let number = scale.pick(50_000, 200_000, 200_000);
    vec![Case::new(format!("{number} messages"), NO_VARIANTS, move |server, contestant| {
        let number = number.min(contestant.at_most);
        let database = prepared(server, contestant)?;
        let seconds = process::seconds(contestant, &database, &words(&format!("produce {number}")))?;
        Ok(Measures::from([("rate".to_owned(), float(number) / seconds)]))
    })]
}

pub(super) fn single(scale: Scale, _database: Kind) -> Vec<Case> {
    let case = |connections: u64, name: &str| {
        let number = scale.pick(800, 3_200, 16_000) * if connections > 1 { 2 } else { 1 };
        Case::new(name, NO_VARIANTS, move |server, contestant| {
            let database = prepared(server, contestant)?;
            let line = words(&format!("single {number} --connections {connections}"));
            let seconds = process::seconds(contestant, &database, &line)?;
            Ok(Measures::from([("rate".to_owned(), float(number) / seconds)]))
        })
        .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::Every))
    };
    vec![case(1, "1 connection"), case(16, "16 connections")]
}
