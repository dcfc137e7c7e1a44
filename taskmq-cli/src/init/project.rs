//! What there is: the Diesel project that the command was called in.

use std::path::{Path, PathBuf};

use taskmq_core::Backend;
use toml_edit::{DocumentMut, Item};

use crate::error::{Error, Result};

/// The project as it is.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder of its Cargo.toml.
    pub(crate) root: PathBuf,
    pub(crate) manifest: DocumentMut,
    pub(crate) manifest_text: String,
    /// The package's name.
    pub(crate) name: String,
    pub(crate) lib: Option<Target>,
    /// Its main program.
    pub(crate) main: Option<Target>,
    pub(crate) migrations: PathBuf,
    pub(crate) backend: Backend,
}

/// A crate of the package.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

/// The folder of the package that `current` is in.
pub(crate) fn root(current: &Path) -> Result<PathBuf> {
    current.ancestors().find(|folder| folder.join("Cargo.toml").is_file()).map(Path::to_owned).ok_or_else(
        || refused("there is no Cargo.toml here or above: go to the folder of your Diesel project"),
    )
}

impl Project {
    pub(crate) fn discover(root: PathBuf, backend: Option<Backend>, url: Option<&str>) -> Result<Self> {
        let path = root.join("Cargo.toml");
        let manifest_text = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        let manifest: DocumentMut = manifest_text
            .trim_start_matches('\u{feff}')
            .parse()
            .map_err(|e| refused(format!("{} cannot be read: {e}", path.display())))?;
        let Some(package) = manifest.get("package") else {
            return Err(refused(format!(
                "{} is a workspace without a package: go to the folder of one of its members{}",
                path.display(),
                members(&manifest)
            )));
        };
        let name = package.get("name").and_then(Item::as_str).unwrap_or_default().to_owned();
        let diesel = diesel_features(&root, &manifest)?;
        let backend = choose_backend(backend, &diesel, url)?;
        let (lib, main) = (library(&root, &manifest, &name), main_program(&root, &manifest, &name));
        if lib.is_none() && main.is_none() {
            return Err(refused(format!("{} has neither src/lib.rs nor src/main.rs", root.display())));
        }
        let edition = manifest.get("package").and_then(|package| package.get("edition"));
        if edition.is_none_or(|edition| edition.as_str() == Some("2015")) {
            return Err(refused(format!(
                "{} has edition 2015, which taskmq's macro cannot be used in: set edition = \"2024\"",
                path.display()
            )));
        }
        if let Some(other) = other_worker(&root, &manifest, main.as_ref()) {
            return Err(refused(format!(
                "{} is a program called worker already, and so is taskmq's: give yours another name",
                other.display()
            )));
        }
        let migrations = migrations_folder(&root)?;
        Ok(Self { root, manifest, manifest_text, name, lib, main, migrations, backend })
    }

    /// Whether it depends on taskmq, so that `init` has been here before.
    pub(crate) fn has_taskmq(&self) -> bool {
        self.manifest.get("dependencies").is_some_and(|all| all.get("taskmq-core").is_some())
    }

    /// The path of `consumers.rs` beside a crate's file, as `src/bin/worker.rs` has to write it.
    pub(crate) fn seen_from_worker(&self, file: &Path) -> String {
        let folder =
            file.parent().and_then(|folder| folder.strip_prefix(&self.root).ok()).unwrap_or(Path::new(""));
        let path = match folder.strip_prefix("src") {
            Ok(below) => Path::new("..").join(below),
            Err(_) => Path::new("../..").join(folder),
        };
        path.join("consumers.rs").display().to_string().replace('\\', "/")
    }
}

/// Some members of a workspace, to choose from.
fn members(manifest: &DocumentMut) -> String {
    let members = manifest.get("workspace").and_then(|w| w.get("members")).and_then(Item::as_array);
    let names: Vec<&str> =
        members.into_iter().flatten().filter_map(|member| member.as_str()).take(8).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

fn library(root: &Path, manifest: &DocumentMut, package: &str) -> Option<Target> {
    let text = |key| manifest.get("lib").and_then(|lib| lib.get(key)).and_then(Item::as_str);
    let file = root.join(text("path").unwrap_or("src/lib.rs"));
    let name = text("name").map_or_else(|| package.replace('-', "_"), str::to_owned);
    file.is_file().then_some(Target { name, file })
}

/// The programs that `[[bin]]` names, with their files.
fn named_programs(root: &Path, manifest: &DocumentMut, package: &str) -> Vec<Target> {
    let bins = manifest.get("bin").and_then(Item::as_array_of_tables);
    let target = |bin: &toml_edit::Table| {
        let name = bin.get("name").and_then(Item::as_str)?;
        let default = if name == package { "src/main.rs".to_owned() } else { format!("src/bin/{name}.rs") };
        let path = bin.get("path").and_then(Item::as_str).unwrap_or(&default);
        Some(Target { name: name.to_owned(), file: root.join(path) })
    };
    bins.into_iter().flatten().filter_map(target).collect()
}

/// That of `src/main.rs`, under whatever name, or else the one that `[[bin]]` has.
fn main_program(root: &Path, manifest: &DocumentMut, package: &str) -> Option<Target> {
    let worker = root.join("src/bin/worker.rs");
    let mut named = named_programs(root, manifest, package);
    named.retain(|bin| bin.file.is_file() && bin.file != worker);
    let main = root.join("src/main.rs");
    if let Some(at) = named.iter().position(|bin| bin.file == main) {
        return Some(named.swap_remove(at));
    }
    if main.is_file() {
        return Some(Target { name: package.to_owned(), file: main });
    }
    if named.len() == 1 { named.pop() } else { None }
}

/// A program that has the name of taskmq's.
fn other_worker(root: &Path, manifest: &DocumentMut, main: Option<&Target>) -> Option<PathBuf> {
    let taskmqs = root.join("src/bin/worker.rs");
    let folder = root.join("src/bin/worker/main.rs");
    let named = named_programs(root, manifest, "");
    let other = named.into_iter().find(|bin| bin.name == "worker" && bin.file != taskmqs);
    other
        .map(|bin| bin.file)
        .or_else(|| main.filter(|main| main.name == "worker").map(|main| main.file.clone()))
        .or_else(|| folder.is_file().then_some(folder))
}

fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}

/// The features of the diesel dependency, its workspace's included.
fn diesel_features(root: &Path, manifest: &DocumentMut) -> Result<Vec<String>> {
    let Some(diesel) = manifest.get("dependencies").and_then(|d| d.get("diesel")) else {
        return Err(refused(format!(
            "{} does not depend on diesel: taskmq lives in the database of a Diesel project (cargo add diesel --features sqlite)",
            root.join("Cargo.toml").display()
        )));
    };
    let mut features = features(diesel);
    if diesel.get("workspace").and_then(Item::as_bool) == Some(true) {
        for folder in root.ancestors().skip(1) {
            let Ok(text) = std::fs::read_to_string(folder.join("Cargo.toml")) else { continue };
            let Ok(document) = text.parse::<DocumentMut>() else { continue };
            if let Some(shared) =
                document.get("workspace").and_then(|w| w.get("dependencies")).and_then(|d| d.get("diesel"))
            {
                features.extend(self::features(shared));
                break;
            }
        }
    }
    Ok(features)
}

fn features(dependency: &Item) -> Vec<String> {
    let list = dependency.get("features").and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|feature| feature.as_str().map(str::to_owned)).collect()
}

fn choose_backend(asked: Option<Backend>, diesel: &[String], url: Option<&str>) -> Result<Backend> {
    let has = |backend: Backend| {
        diesel.iter().any(|feature| {
            let feature = feature.strip_suffix("_backend").unwrap_or(feature);
            feature == backend.feature()
        })
    };
    if let Some(backend) = asked {
        if !has(backend) {
            return Err(refused(format!(
                "diesel has not the feature `{0}` in Cargo.toml: cargo add diesel --features {0}",
                backend.feature()
            )));
        }
        return Ok(backend);
    }
    let enabled: Vec<Backend> = Backend::ALL.into_iter().filter(|b| has(*b)).collect();
    match (&*enabled, url) {
        ([one], _) => Ok(*one),
        ([], _) => Err(refused(
            "diesel has no database in Cargo.toml: cargo add diesel --features sqlite (or postgres, or mysql)",
        )),
        (_, Some(url)) => {
            let backend = Backend::of_url(url)?;
            if enabled.contains(&backend) {
                Ok(backend)
            } else {
                Err(refused(format!(
                    "DATABASE_URL is {backend}, for which diesel has no feature in Cargo.toml"
                )))
            }
        }
        (_, None) => Err(refused(
            "diesel has several databases in Cargo.toml: say which with --backend, or set DATABASE_URL",
        )),
    }
}

/// The folder that diesel_cli would use: `MIGRATION_DIRECTORY`, that of `diesel.toml`, or the nearest `migrations`.
pub(crate) fn migrations_folder(current: &Path) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("MIGRATION_DIRECTORY") {
        return Ok(folder.into());
    }
    let config = match std::env::var_os("DIESEL_CONFIG_FILE") {
        Some(file) => Some(PathBuf::from(file)),
        None => current.ancestors().map(|folder| folder.join("diesel.toml")).find(|file| file.is_file()),
    };
    if let Some(file) = config {
        let text = std::fs::read_to_string(&file).map_err(Error::file(&file))?;
        let document: DocumentMut =
            text.parse().map_err(|e| refused(format!("{} cannot be read: {e}", file.display())))?;
        let dir = document.get("migrations_directory").and_then(|m| m.get("dir")).and_then(Item::as_str);
        let base = file.parent().unwrap_or(Path::new("."));
        if let Some(dir) = dir {
            return Ok(base.join(dir));
        }
        return Ok(base.join("migrations"));
    }
    let root = current.ancestors().find(|folder| folder.join("Cargo.toml").is_file()).unwrap_or(current);
    let found = current.ancestors().map(|folder| folder.join("migrations")).find(|folder| folder.is_dir());
    Ok(found.unwrap_or_else(|| root.join("migrations")))
}
