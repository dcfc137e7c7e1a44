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
    /// The name of its library crate, and the library's file.
    pub(crate) lib: Option<(String, PathBuf)>,
    /// The file of its main program.
    pub(crate) main: Option<PathBuf>,
    pub(crate) migrations: PathBuf,
    pub(crate) backend: Backend,
}

impl Project {
    /// Looks at the package that `current` is in.
    pub(crate) fn discover(current: &Path, backend: Option<Backend>, url: Option<&str>) -> Result<Self> {
        let path = current
            .ancestors()
            .map(|folder| folder.join("Cargo.toml"))
            .find(|file| file.is_file())
            .ok_or_else(|| {
                refused("there is no Cargo.toml here or above: go to the folder of your Diesel project")
            })?;
        let root = path.parent().unwrap_or(Path::new(".")).to_owned();
        let manifest_text = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        let manifest: DocumentMut = manifest_text
            .trim_start_matches('\u{feff}')
            .parse()
            .map_err(|e| refused(format!("{} cannot be read: {e}", path.display())))?;
        let Some(package) = manifest.get("package") else {
            return Err(refused(format!(
                "{} is a workspace without a package: go to the folder of one of its members",
                path.display()
            )));
        };
        let name = package.get("name").and_then(Item::as_str).unwrap_or_default().to_owned();
        let diesel = diesel_features(&root, &manifest)?;
        let backend = choose_backend(backend, &diesel, url)?;
        let lib = manifest.get("lib");
        let lib_file =
            root.join(lib.and_then(|l| l.get("path")).and_then(Item::as_str).unwrap_or("src/lib.rs"));
        let lib_name = lib
            .and_then(|l| l.get("name"))
            .and_then(Item::as_str)
            .map_or_else(|| name.replace('-', "_"), str::to_owned);
        let main = Some(root.join("src/main.rs")).filter(|file| file.is_file());
        let lib = lib_file.is_file().then_some((lib_name, lib_file));
        if lib.is_none() && main.is_none() {
            return Err(refused(format!("{} has neither src/lib.rs nor src/main.rs", root.display())));
        }
        let migrations = migrations_folder(&root)?;
        Ok(Self { root, manifest, manifest_text, name, lib, main, migrations, backend })
    }
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
