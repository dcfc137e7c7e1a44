//! The kinds of Diesel projects.

use std::sync::atomic::{AtomicU32, Ordering};

use taskmq_core::Backend;

pub(super) struct Shape {
    pub(super) files: Vec<(&'static str, String)>,
    /// The package's folder, relative to the project's.
    pub(super) package: &'static str,
    /// Where the package's modules are.
    pub(super) modules: &'static str,
    /// What its program, if it has one, calls the consumers.
    pub(super) program_says: Option<&'static str>,
    /// The file in which `diesel` writes a schema that the library compiles.
    pub(super) schema: Option<&'static str>,
}

const MAIN: &str = "fn main() {}\n";

/// Each has a version of its own: Cargo knows packages by name and version below their workspace, and would take what it has
/// compiled of one for another's in the folder that they share. The next run of the tests takes the same ones.
fn manifest(diesel: &str) -> String {
    static VERSION: AtomicU32 = AtomicU32::new(0);
    let version = VERSION.fetch_add(1, Ordering::Relaxed);
    format!(
        "[package]\nname = \"shop\"\nversion = \"0.1.{version}\"\nedition = \"2024\"\n\n[dependencies]\n{diesel}\n"
    )
}

fn diesel(backend: Backend) -> String {
    format!("diesel = {{ version = \"2.3\", features = [\"{}\"] }}", backend.feature())
}

/// The project's own table, which is there before taskmq is.
fn posts(backend: Backend) -> String {
    let id = match backend {
        Backend::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Backend::Postgres => "BIGSERIAL PRIMARY KEY",
        Backend::Mysql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
    };
    format!("CREATE TABLE posts (id {id} NOT NULL, title VARCHAR(100) NOT NULL);\n")
}

pub(super) fn main_only(backend: Backend) -> Shape {
    Shape {
        files: vec![
            ("Cargo.toml", manifest(&diesel(backend))),
            ("src/main.rs", MAIN.to_owned()),
            ("migrations/2024-01-01-000000_posts/up.sql", posts(backend)),
            ("migrations/2024-01-01-000000_posts/down.sql", "DROP TABLE posts;\n".to_owned()),
        ],
        package: "",
        modules: "src",
        program_says: Some("consumers"),
        schema: None,
    }
}

pub(super) fn lib_only(backend: Backend) -> Shape {
    let mut shape = main_only(backend);
    shape.files[1] = ("src/lib.rs", "//! A shop.\n".to_owned());
    Shape { program_says: None, ..shape }
}

/// With a `schema.rs` that each `diesel migration run` writes anew.
pub(super) fn main_and_lib(backend: Backend) -> Shape {
    let mut shape = main_only(backend);
    shape.files.extend([
        ("src/lib.rs", "pub mod schema;\n".to_owned()),
        ("src/schema.rs", String::new()),
        ("diesel.toml", "[print_schema]\nfile = \"src/schema.rs\"\n".to_owned()),
    ]);
    Shape { program_says: Some("shop::consumers"), schema: Some("src/schema.rs"), ..shape }
}

pub(super) fn workspace_member(backend: Backend) -> Shape {
    let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n\n[workspace.dependencies]\n";
    Shape {
        files: vec![
            ("Cargo.toml", format!("{workspace}{}\nserde = \"1\"\n", diesel(backend))),
            ("crates/shop/Cargo.toml", manifest("diesel.workspace = true\nserde = { workspace = true }")),
            ("crates/shop/src/main.rs", MAIN.to_owned()),
            ("migrations/2024-01-01-000000_posts/up.sql", posts(backend)),
            ("migrations/2024-01-01-000000_posts/down.sql", "DROP TABLE posts;\n".to_owned()),
        ],
        package: "crates/shop",
        modules: "src",
        program_says: Some("consumers"),
        schema: None,
    }
}

/// Nothing is where it mostly is.
pub(super) fn custom_paths(backend: Backend) -> Shape {
    let config =
        "[print_schema]\nfile = \"code/db/tables.rs\"\n\n[migrations_directory]\ndir = \"db/steps\"\n";
    let paths = "\n[lib]\nname = \"store\"\npath = \"code/store.rs\"\n\n[[bin]]\nname = \"till\"\npath = \"src/main.rs\"\n";
    Shape {
        files: vec![
            ("Cargo.toml", manifest(&diesel(backend)) + paths),
            ("code/store.rs", "#[path = \"db/tables.rs\"]\npub mod schema;\n".to_owned()),
            ("code/db/tables.rs", String::new()),
            ("src/main.rs", MAIN.to_owned()),
            ("diesel.toml", config.to_owned()),
            ("db/steps/2024-01-01-000000_posts/up.sql", posts(backend)),
            ("db/steps/2024-01-01-000000_posts/down.sql", "DROP TABLE posts;\n".to_owned()),
        ],
        package: "",
        modules: "code",
        program_says: Some("store::consumers"),
        schema: Some("code/db/tables.rs"),
    }
}
