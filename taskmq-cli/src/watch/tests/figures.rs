//! Rates, errors and times.

use super::Watched;

/// Of mail: two done, which waited 250 ms and ran 1.5 s, and a failed attempt of a message that is there still.
const LATELY: &str = "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, finished_at, worker_id, attempts, crashes, payload)
    SELECT value, 'mail', 'done', 0, strftime('%Y-%m-%d %H:%M:%f', 'now', '-11.75 seconds'), '2026-01-01 00:00:00.000',
        strftime('%Y-%m-%d %H:%M:%f', 'now', '-11.5 seconds'), strftime('%Y-%m-%d %H:%M:%f', 'now', '-10 seconds'), 5, 1, 0, '1'
    FROM json_each('[201, 202]');
    INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (101, 1, 'error', 'broken', 'box:77')";

#[test]
fn a_wide_screen_has_the_rates_and_times_of_each_topic() {
    let mut watched = Watched::new();
    watched.execute(LATELY);
    let narrow = watched.screen(80, 24).join("\n");
    assert!(narrow.contains("OLDEST WORKERS") && !narrow.contains("IN/S"), "{narrow}");
    let wide = watched.screen(160, 40);
    let heading = "OLDEST WORKERS   IN/S  OUT/S ERRORS WAIT P50/P99  RUN P50/P99";
    assert!(wide.iter().any(|line| line.contains(heading)), "{wide:#?}");
    let mail = wide.iter().find(|line| line.contains("mail")).expect("is shown");
    // Four messages came within the minute, two were done and two died; one attempt of three failed.
    let figures = "0.07   0.07    33%  250ms/250ms    1.5s/1.5s";
    assert!(mail.contains(figures), "{mail}");
    assert!(watched.screen(100, 24).iter().any(|line| line.contains("WORKERS   IN/S  OUT/S│")));
    assert!(wide.iter().any(|line| line.contains("produced 0.1/s")), "{wide:#?}");
}

#[test]
fn all_figures_of_a_topic_are_shown_on_enter() {
    let mut watched = Watched::new();
    watched.execute(LATELY);
    watched.execute("INSERT INTO taskmq_limits (topic, running, actor) VALUES ('mail', 2, 'Ann')");
    watched.press("p\n");
    for (width, height) in [(80, 24), (160, 40)] {
        let screen = watched.screen(width, height).join("\n");
        for words in [
            "ready      2, the oldest due for ",
            "finished   0.07/s",
            "errors     33% of the attempts",
            "wait       p50 250ms, p99 250ms",
            "run        p50 1.5s, p99 1.5s",
            "paused     since 2",
            "by taskmq-cli watch",
            "limited    2 at once; 0 run now",
        ] {
            assert!(screen.contains(words), "{words} in {width}x{height}:\n{screen}");
        }
    }
    watched.execute("DELETE FROM taskmq_messages; DELETE FROM taskmq_archive; DELETE FROM taskmq_limits; DELETE FROM taskmq_paused");
    assert!(watched.shows("nothing of it is left"));
    watched.press("q");
    assert!(!watched.app.ends && watched.app.popup.is_none());
}

#[test]
fn what_a_worker_holds_is_shown_on_enter() {
    let mut watched = Watched::new();
    watched.execute(
        "UPDATE taskmq_messages SET claimed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-200 seconds') WHERE worker_id = 5",
    );
    watched.press("\t\n");
    for (width, height) in [(80, 24), (160, 40)] {
        let screen = watched.screen(width, height).join("\n");
        for words in [
            "box:77",
            "id         0000000000000005",
            "topics     play",
            "holds      1 of 8",
            "4          for 3m    play",
        ] {
            assert!(screen.contains(words), "{words} in {width}x{height}:\n{screen}");
        }
    }
    watched.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40)
         INSERT INTO taskmq_messages (topic, payload, worker_id) SELECT 'play', '1', 5 FROM n",
    );
    assert!(watched.shows("and 29 more"), "{:#?}", watched.screen(80, 24));
    watched.execute("DELETE FROM taskmq_workers");
    assert!(watched.shows("it has ended"));
}
