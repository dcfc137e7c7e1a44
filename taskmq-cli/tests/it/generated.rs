//! `init` on projects as nobody would write them: it makes one that can be read and in which all else is as it was, or it
//! says what is wrong with which file and writes nothing.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use proptest::prelude::*;
use proptest::sample::select;

use crate::host::Host;

const PACKAGES: [&str; 7] = [
    "[package]\nname = \"my-host\"\nversion = \"0.1.0\"\nedition = \"2021\" # keep me\n",
    "# ü\n\n[package] # here\n\tname\t=\t'my-host'\n\tversion = \"0.1.0\"\n\tedition = \"2024\"\n",
    "package.name = \"my-host\"\npackage.version = \"0.1.0\"\npackage.edition = \"2024\"\n",
    "package = { name = \"my-host\", version = \"0.1.0\", edition = \"2024\" }\n",
    "[ package ]\n\"name\" = \"my-host\"\nversion=\"0.1.0\"\nedition=\"2021\"\ndefault-run = \"my-host\"\n",
    "[package]\nname = \"my-host\"\nversion = \"0.1.0\"\nedition = \"2021\"\nautobins = false\ndescription = \"\"\"\ntwo\n  lines # no comment\n\"\"\"\n",
    "[package]\nname = \"my-host\"\nversion = \"0.1.0\"\nedition.workspace = true\n",
];

/// The first three may stand in front of a table.
const DEPENDENCIES: [&str; 8] = [
    "dependencies.diesel.version = \"2.3\"\ndependencies.diesel.features = [\"sqlite\"]\n",
    "dependencies = { diesel = { version = \"2.3\", features = [\"sqlite\"] } } # inline\n",
    "dependencies = { diesel.workspace = true }\n",
    "[dependencies]\ndiesel = { version = \"2.3\", features = [\"sqlite\"] }\n",
    "\n\n[dependencies.diesel]\nversion = \"2.3\"\nfeatures = [\n\t\"sqlite\", # the file\n\t# no more\n]\n",
    "[dependencies]\ndiesel.version = \"2.3\"\ndiesel.features = [ \"sqlite\" , ]\n",
    "[dependencies]\n# first\ndiesel = { workspace = true } # shared\n",
    "[dependencies]\n  diesel = { version = \"2.3\", default-features = false, features = [\"sqlite\", 'r2d2'] }\n\n# the end\n",
];

/// Where `[dependencies]` stands in front.
const SERDES: [&str; 7] = [
    "serde = \"1\" # mine\n",
    "serde = { version = \"1\" }\n",
    "serde = { version = \"1\", features = [\"rc\"] }\n",
    "serde.version = \"1\"\n",
    "serde = { version = \"1\", features = [\n  \"rc\",\n  \"derive\",\n] }\n",
    "serde.workspace = true\n",
    "[dependencies.serde]\nversion = \"1\"\n",
];

const ENDS: [&str; 6] = [
    "",
    "\n[dev-dependencies]\n# none yet\n",
    "[features]\ndefault = []\n\n\n\n[profile.dev]\ndebug   =   1\n",
    "[[bin]]\nname = \"my-host\"\npath = \"src/main.rs\"\n",
    "[[ bin ]]\nname = \"tool\"\npath = \"src/tool.rs\"\n[target.'cfg(unix)'.dependencies]\n",
    "[dependencies]\n",
];

fn manifests() -> impl Strategy<Value = String> {
    let dependencies = select(&DEPENDENCIES[..]);
    let serde = proptest::option::of(select(&SERDES[..]));
    (select(&PACKAGES[..]), dependencies, serde, select(&ENDS[..])).prop_map(
        |(package, dependencies, serde, end)| {
            let serde = serde
                .filter(|serde| dependencies.starts_with("[dependencies]") || serde.starts_with('['))
                .unwrap_or("");
            // What is no table comes before those that are.
            match dependencies.starts_with("dependencies") {
                true => format!("{dependencies}{serde}{package}{end}"),
                false => format!("{package}{dependencies}{serde}{end}"),
            }
        },
    )
}

const PIECES: [&str; 24] = [
    "//! Mine.\n\n",
    "#![allow(dead_code)]\n",
    "#![allow(\n    unused\n)]\n",
    "/* a comment\n   of two lines */\n",
    "// mod taskmq;\n",
    "mod a;\n",
    "pub mod a;\r\n",
    "mod a; // beside it\n",
    "mod a; fn beside() {\n}\n",
    "mod a; /* begins here\nand ends here */\n",
    "#[path = \"a.rs\"]\nmod b;\n",
    "#[cfg(test)]\nmod tests {\n    mod inner {}\n}\n",
    "use std::fmt as _;\n",
    "const TEXT: &str = \"\nmod taskmq;\n\";\n",
    "const RAW: &str = r#\"\n}}} mod consumers;\"#;\n",
    "macro_rules! m { () => { mod taskmq {} } }\n",
    "\tfn tab() {}\n",
    "fn one() {} fn two() {\n}\n",
    "/// Of the next.\n/** and more */ fn documented() {}\n",
    "/* x */ fn behind_a_comment() {}\n",
    "\n\n\n",
    "// länder 😀\n",
    "mod r#async;\n",
    "#![doc = \"x\"] fn on_the_line_of_an_attribute() {}\n",
];

/// With these nothing can be done.
const WRONG: [&str; 7] = [
    "<<<<<<< HEAD\nfn a() {}\n=======\nfn b() {}\n>>>>>>> other\n",
    "fn broken( {\n",
    "mod taskmq;\n",
    "mod consumers { pub fn mine() {} }\n",
    "pub(crate) mod r#taskmq {}\n",
    "\"not ended\n",
    "}\n",
];

fn sources() -> impl Strategy<Value = String> {
    let piece = prop_oneof![30 => select(&PIECES[..]), 1 => select(&WRONG[..])];
    (any::<bool>(), proptest::collection::vec(piece, 0..6)).prop_map(|(shebang, pieces)| {
        let shebang = if shebang { "#!/usr/bin/env run\n" } else { "" };
        format!("{shebang}{}fn main() {{}}\n", pieces.concat())
    })
}

/// As an editor leaves it.
fn edited_by_hand(texts: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let way = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.25), proptest::bool::weighted(0.2));
    (texts, way).prop_map(|(text, (mark, carriage, no_end))| {
        let text = if no_end { text.trim_end().to_owned() } else { text };
        let text = if carriage { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text };
        if mark { format!("\u{feff}{text}") } else { text }
    })
}

#[derive(Clone, Debug)]
struct Project {
    folder: &'static str,
    manifest: String,
    program: Option<String>,
    library: Option<String>,
    workspace: Option<&'static str>,
    diesel_toml: Option<&'static str>,
    more: Vec<(&'static str, &'static str)>,
    linked: bool,
    read_only: bool,
    git: Git,
    options: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Git {
    None,
    Committed,
    Dirty,
}

fn projects() -> impl Strategy<Value = Project> {
    let folder = select(vec![
        "host",
        "two words",
        "a \"quote\" 'n' more",
        "länder/größe",
        "new\nline",
        "-n",
        "a\u{1b}[2Jb",
    ]);
    let workspace = select(vec![
        "[workspace]\nmembers = [\"*\"]\n[workspace.package]\nedition = \"2021\"\n[workspace.dependencies]\ndiesel = { version = \"2.3\", features = [\"sqlite\"] }\nserde = \"1\"\n",
        "\u{feff}[workspace.dependencies.diesel]\r\nversion = \"2.3\"\r\nfeatures = [\"sqlite\"]\r\n",
    ]);
    let diesel_toml = select(vec![
        "[migrations_directory]\ndir = \"db/steps\"\n",
        "\u{feff}[migrations_directory]\r\ndir = \"a b/\\\"c\\\"\"\r\n",
        "[print_schema]\nfile = \"src/schema.rs\"\n",
        "=======\n",
        "[migrations_directory]\ndir = \"../outside\"\n",
    ]);
    let more = select(vec![
        ("src/taskmq.rs", "// mine\n"),
        ("src/consumers.rs", "// Made by `taskmq-cli init`; it is yours now.\n// and changed\n"),
        ("src/bin/worker.rs", "fn main() {}\n"),
        ("src/bin/tool.rs", "fn main() {}\n"),
        ("src/bin", ""),
        (".taskmq-init.json", "{\"folders\":[],\"files\":[],"),
        (".taskmq-init.json", "{\"folders\":[],\"files\":[],\"migration\":null}"),
        ("migrations/2199-01-01-000000_future/up.sql", ""),
        ("migrations/1_queue/up.sql", "CREATE TABLE taskmq_messages (id INT);"),
        ("target/taskmq-init-backup/Cargo.toml", "older\n"),
    ]);
    let git = prop_oneof![4 => Just(Git::None), 3 => Just(Git::Committed), 1 => Just(Git::Dirty)];
    let options = select(vec![
        &[][..],
        &[],
        &["--allow-dirty"],
        &["--backend", "sqlite"],
        &["--path", "../.."],
        &["--backend", "mysql"],
    ]);
    let rare = |strategy| proptest::option::weighted(0.4, strategy);
    (
        (folder, edited_by_hand(manifests()), proptest::option::weighted(0.85, edited_by_hand(sources()))),
        (
            proptest::option::weighted(0.3, edited_by_hand(sources())),
            proptest::option::weighted(0.5, workspace),
            rare(diesel_toml.boxed()),
        ),
        (
            proptest::collection::vec(more, 0..2),
            proptest::bool::weighted(0.15),
            proptest::bool::weighted(0.1),
            git,
            options,
        ),
    )
        .prop_map(
            |(
                (folder, manifest, program),
                (library, workspace, diesel_toml),
                (more, linked, read_only, git, options),
            )| Project {
                folder,
                manifest,
                program,
                library,
                workspace,
                diesel_toml,
                more,
                linked,
                read_only,
                git,
                options,
            },
        )
}

impl Project {
    fn make(&self) -> Host {
        let host = Host::new(&[]);
        let root = host.path(self.folder);
        let code = if self.linked { "code" } else { "src" };
        fs::create_dir_all(root.join(code)).expect("folders");
        if self.linked {
            symlink("code", root.join("src")).expect("a link");
        }
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            // A file may be where another of the list has a folder.
            let _ = fs::write(path, text);
        };
        write("Cargo.toml", &self.manifest);
        for (name, text) in [("src/main.rs", &self.program), ("src/lib.rs", &self.library)] {
            if let Some(text) = text {
                write(name, text);
            }
        }
        if let Some(text) = self.workspace {
            fs::write(host.path("Cargo.toml"), text).expect("a file");
        }
        if let Some(text) = self.diesel_toml {
            write("diesel.toml", text);
        }
        for (name, text) in &self.more {
            write(name, text);
        }
        if self.git != Git::None {
            host.git(&["init", "--quiet"]);
            host.git(&["add", "."]);
            host.git(&["commit", "--quiet", "-m", "first"]);
        }
        if self.git == Git::Dirty {
            write("Cargo.toml", &format!("{}\n# new", self.manifest));
        }
        if self.read_only {
            fs::set_permissions(root.join("Cargo.toml"), Permissions::from_mode(0o444)).expect("a mode");
        }
        host
    }

    fn init(&self, host: &Host, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
            .arg("init")
            .args(self.options)
            .args(more)
            .current_dir(host.path(self.folder))
            .env_remove("DATABASE_URL")
            .output()
            .expect("runs")
    }
}

fn times(folder: &Path) -> BTreeMap<String, SystemTime> {
    let mut times = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            // What `git status` itself writes is not meant.
            if path.file_name().is_some_and(|name| name == ".git") {
                continue;
            }
            let about = fs::symlink_metadata(&path).expect("is there");
            times.insert(path.display().to_string(), about.modified().expect("a time"));
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    times
}

/// Some seconds may pass between two runs, and the migration's name tells.
fn same_names(host: &Host) -> Vec<(String, String)> {
    let name = |path: String| match path.rsplit_once("_taskmq/") {
        Some((_, file)) => format!("migration/{file}"),
        None => path,
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let all = host.tree().into_iter().filter(|(path, _)| !path.contains("taskmq-init-backup"));
    all.map(|(path, bytes)| (name(path), text(bytes))).collect()
}

/// Each line of the text, with its end, is in the other, in this order, but for those that taskmq has to change.
fn is_kept(text: &str, edited: &str) -> bool {
    let changed = |line: &str| {
        line.contains("serde") || line.starts_with("package = {") || line.starts_with("dependencies = {")
    };
    // A mark stays in front of all.
    let (text, edited) = match (text.strip_prefix('\u{feff}'), edited.strip_prefix('\u{feff}')) {
        (Some(text), Some(edited)) => (text, edited),
        (None, None) => (text, edited),
        _ => return false,
    };
    let mut rest = edited.split_inclusive('\n');
    text.split_inclusive('\n').filter(|line| !changed(line)).all(|line| {
        // The last line may have got its end.
        rest.any(|other| other == line || !line.ends_with('\n') && other.trim_end() == line)
    })
}

fn has_all(manifest: &str) -> bool {
    let document: toml_edit::DocumentMut =
        manifest.trim_start_matches('\u{feff}').parse().expect("can be read");
    let dependencies = document["dependencies"].as_table_like().expect("a table");
    let derives = |item: &toml_edit::Item| {
        let features = item.get("features").and_then(|features| features.as_array());
        features.is_some_and(|all| all.iter().any(|feature| feature.as_str() == Some("derive")))
    };
    dependencies.contains_key("diesel")
        && dependencies.contains_key("taskmq-core")
        && dependencies.get("serde").is_some_and(derives)
}

fn check(project: &Project) -> Result<(), TestCaseError> {
    let (dry, real) = (project.make(), project.make());
    let before = dry.tree();
    let times_before = times(&dry.path(""));
    let shown = project.init(&dry, &["--dry-run"]);
    prop_assert_eq!(dry.tree(), before.clone(), "a dry run writes nothing");
    prop_assert_eq!(times(&dry.path("")), times_before, "a dry run touches nothing");
    let out = project.init(&real, &[]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    for text in [&said, &String::from_utf8_lossy(&out.stdout).into_owned()] {
        prop_assert!(!text.contains("panicked"), "{}", text);
        prop_assert!(!text.contains('\u{1b}'), "{}", text);
    }
    let root = real.path(project.folder);
    let journal = root.join(".taskmq-init.json");
    prop_assert!(!journal.exists(), "nothing is left half done");
    if out.status.code() != Some(0) {
        prop_assert_eq!(out.status.code(), Some(2), "{}", &said);
        prop_assert!(said.starts_with("error: ") && said.len() > 20, "{}", said);
        let mut after = real.tree();
        let mut before = before;
        // A journal that was there is dealt with.
        for tree in [&mut after, &mut before] {
            tree.retain(|name, _| !name.ends_with(".taskmq-init.json"));
        }
        prop_assert_eq!(after, before, "nothing is written: {}", said);
        return Ok(());
    }
    let after = real.tree();
    for (name, bytes) in &before {
        let text = String::from_utf8_lossy(bytes);
        let Some(now) = after.get(name) else {
            prop_assert!(name.ends_with(".taskmq-init.json"), "{} is gone", name);
            continue;
        };
        if now != bytes {
            let now = String::from_utf8_lossy(now);
            let edited = ["Cargo.toml", "main.rs", "lib.rs"].iter().any(|edited| name.ends_with(edited));
            prop_assert!(edited || name.contains("taskmq-init-backup"), "{} is changed: {}", name, now);
            prop_assert!(
                is_kept(&text, &now) || !edited || name.contains("backup"),
                "{}: {}\nwas {}",
                name,
                now,
                text
            );
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("is there");
    prop_assert!(has_all(&manifest), "{}", manifest);
    let file = if root.join("src/lib.rs").is_file() { "src/lib.rs" } else { "src/main.rs" };
    let text = fs::read_to_string(root.join(file)).expect("is there");
    let code = syn::parse_file(text.trim_start_matches('\u{feff}')).expect("is Rust");
    for name in ["consumers", "taskmq"] {
        let declares = |item: &syn::Item| matches!(item, syn::Item::Mod(module) if module.ident == name && module.content.is_none());
        prop_assert_eq!(code.items.iter().filter(|item| declares(item)).count(), 1, "{}: {}", name, text);
    }
    let again = project.init(&real, &[]);
    // What the first run changed is a change to git.
    prop_assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    prop_assert!(String::from_utf8_lossy(&again.stdout).starts_with("nothing to do"));
    prop_assert_eq!(real.tree(), after, "a second run changes nothing");
    // A dry run mends nothing that was begun, and looks not for what is not committed.
    if shown.status.success() && project.more.iter().all(|(name, _)| !name.starts_with(".taskmq")) {
        fs::write(dry.path("target.diff"), &shown.stdout).expect("a file");
        // Where it says.
        let diff = String::from_utf8_lossy(&shown.stdout);
        let named = diff.lines().next().and_then(|line| line.strip_prefix("The paths are those in "));
        let folder = match named {
            Some(folder) => Path::new(folder).to_owned(),
            None => dry.path(project.folder),
        };
        let applied = Command::new("git")
            .args(["apply", dry.path("target.diff").to_str().expect("text")])
            .current_dir(folder)
            .output()
            .expect("git");
        prop_assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        fs::remove_file(dry.path("target.diff")).expect("is removed");
        prop_assert_eq!(same_names(&dry), same_names(&real), "the diff is the result");
    }
    Ok(())
}

#[test]
fn any_project_gets_a_queue_or_is_left_as_it_is() {
    let cases = if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 10_000 } else { 96 };
    proptest!(ProptestConfig { cases, max_shrink_iters: 300, ..ProptestConfig::default() }, |(project in projects())| {
        check(&project)?;
    });
}
