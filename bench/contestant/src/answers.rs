use std::io::BufRead;

use serde::Serialize;
use serde_json::json;

use crate::{Contestant, Result, Work, handled, produce};

/// One line for the benchmark. The mark tells it from whatever else a library prints.
pub(crate) fn answer(answer: &impl Serialize) -> Result {
    println!("= {}", serde_json::to_string(answer)?);
    Ok(())
}

/// Works, and answers the questions on standard input until that ends. It never ends by itself.
pub(crate) fn work<C: Contestant>(contestant: &C, url: &str, work: &Work) -> Result {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = contestant.work(url, work) {
                eprintln!("the worker ended: {error}");
                std::process::exit(1);
            }
        });
        for question in std::io::stdin().lock().lines() {
            let question = question?;
            let words: Vec<&str> = question.split(' ').collect();
            match words[..] {
                ["count"] => {
                    let (handled, first) = handled::count();
                    answer(&json!({"handled": handled, "first": first}))?;
                }
                ["latencies"] => answer(&handled::take_latencies())?,
                ["paced", rate, seconds] => produce::paced(contestant, url, rate.parse()?, seconds.parse()?)?,
                _ => return Err(format!("{question:?} is no question of the benchmark").into()),
            }
        }
        // The benchmark needs this process no more, and its database neither.
        std::process::exit(0);
    })
}
