//! Changes of many messages that somebody else is in the way of.

use std::time::Duration;

use taskmq_core::{AnyConnection, Backend, State};
use taskmq_tests::databases::{fresh, try_execute};

use crate::site::{Seeded, Site, seed};

/// SQLite's one write lock, held by somebody else; a connection of the admin waits 2 s for it.
struct Held(AnyConnection);

impl Held {
    fn of(site: &Site) -> Self {
        let mut conn = site.db.connect();
        try_execute(&mut conn, "BEGIN IMMEDIATE").expect("locks");
        Self(conn)
    }

    fn give_back(mut self) {
        try_execute(&mut self.0, "ROLLBACK").expect("gives it back");
    }
}

fn begun() -> (Site, Seeded, Held, String) {
    let site = Site::new(fresh(Backend::Sqlite), |admin| admin);
    let seeded = seed(&site.db);
    let held = Held::of(&site);
    let fields = [("all", "delete"), ("state", "dead"), ("confirm", "yes")];
    let path = site.post("/change", &fields).change().to_owned();
    (site, seeded, held, path)
}

#[test]
fn a_lock_that_is_held_for_a_moment_is_waited_for() {
    let (site, seeded, held, path) = begun();
    site.pass(Duration::from_secs(5));
    assert!(site.page(&path).contains("In progress"));
    held.give_back();
    let page = site.wait(&path, ">Finished<");
    assert!(page.contains("3 / 3 messages"), "{page}");
    assert!(seeded.dead.iter().all(|id| site.state(*id).is_none()));
}

#[test]
fn a_change_that_waits_for_a_lock_can_be_stopped() {
    let (site, seeded, held, path) = begun();
    site.pass(Duration::from_secs(1));
    site.post(&format!("{path}/stop"), &[]);
    site.wait(&path, ">Stopped<");
    held.give_back();
    assert_eq!(site.state(seeded.dead[0]), Some(State::Dead));
}

#[test]
fn a_lock_that_is_never_given_back_is_told_in_the_readers_language() {
    let (site, _, _held, path) = begun();
    site.pass(Duration::from_secs(16));
    site.wait(&path, ">Failed<");
    assert!(site.page(&path).contains("locked by another writer"));
    let chinese = site.get_in("zh", &path).body;
    assert!(chinese.contains("数据库正被另一个写入者锁定"), "{chinese}");
}
