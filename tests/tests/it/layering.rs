//! Data flows one way: every `use` and every path of `wire/` and `api/` is compared with the table
//! of the architecture (docs/architecture.md).

use std::{collections::BTreeSet, path::Path};

use syn::{UseTree, visit::Visit};

/// The capabilities, from left to right: logic may use logic to its right.
const CAPABILITIES: [&[&str]; 5] = [
    &["uploads", "execution", "cleaner", "keys"],
    &["runs"],
    &["playbooks", "recipients"],
    &["connector"],
    &["events", "audit", "instances"],
];
const DRIVERS: [&str; 7] = [
    "tokio_postgres",
    "deadpool_postgres",
    "rusqlite",
    "refinery",
    "redis",
    "lapin",
    "object_store",
];
/// Files of pure rules beside `model.rs`.
const PURE: &[&str] = &[
    "model.rs",
    "excerpt.rs",
    "message.rs",
    "batch.rs",
    "outcome.rs",
    "permissions.rs",
    "policy.rs",
    "state.rs",
    "token.rs",
    "address.rs",
    "principal.rs",
    "fields.rs",
    "facts.rs",
    "labels.rs",
    "systems.rs",
    "progress.rs",
    "satellite.rs",
];

/// The paths a file names: `["crate", "store", "RunStore"]`, `["axum", "Json"]`, …
fn paths_of(file: &Path) -> BTreeSet<Vec<String>> {
    #[derive(Default)]
    struct Paths(BTreeSet<Vec<String>>);
    impl Paths {
        fn tree(&mut self, prefix: &[String], tree: &UseTree) {
            let with = |name: String| [prefix, &[name]].concat();
            match tree {
                UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
                UseTree::Name(name) => drop(self.0.insert(with(name.ident.to_string()))),
                UseTree::Rename(name) => drop(self.0.insert(with(name.ident.to_string()))),
                UseTree::Glob(_) => drop(self.0.insert(prefix.to_vec())),
                UseTree::Group(group) => {
                    group.items.iter().for_each(|tree| self.tree(prefix, tree))
                }
            }
        }
    }
    impl<'ast> Visit<'ast> for Paths {
        fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
            self.tree(&[], &item.tree);
        }
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            let test = item.attrs.iter().any(|attribute| {
                attribute.path().is_ident("cfg")
                    && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
            });
            if !test {
                syn::visit::visit_item_mod(self, item);
            }
        }
        fn visit_path(&mut self, path: &'ast syn::Path) {
            if path.segments.len() > 1 {
                self.0.insert(path.segments.iter().map(|part| part.ident.to_string()).collect());
            }
            syn::visit::visit_path(self, path);
        }
    }
    let text = std::fs::read_to_string(file).unwrap();
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(&text).unwrap());
    paths.0
}

fn rank(capability: &str) -> Option<usize> {
    CAPABILITIES.iter().position(|names| names.contains(&capability))
}

/// Why a file of the service may not name a path; `None`: it may.
fn objection(file: &str, path: &[String]) -> Option<&'static str> {
    let (folder, name) = file.split_once('/').unwrap_or(("", file));
    let name = name.rsplit('/').next().unwrap_or(name);
    let part = |index: usize| path.get(index).map_or("", String::as_str);
    let external = part(0);
    let own = if external == "crate" { part(1) } else { "" };
    let store_adapter = own == "store" && ["postgres", "sqlite"].contains(&part(2));
    let of_model = part(2) == "model" || PURE.contains(&format!("{}.rs", part(2)).as_str());
    let adapter = ["store", "connector", "bus", "outside", "storage"].contains(&folder);

    if folder == "config" {
        let foreign = external == "crate" && own != "config"
            || ["axum", "tokio"].contains(&external)
            || DRIVERS.contains(&external);
        return foreign.then_some("settings use nothing but their own folder");
    }
    if PURE.contains(&name) && !adapter {
        let impure = ["axum", "tokio", "hyper"].contains(&external)
            || DRIVERS.contains(&external)
            || ["store", "config", "http", "app", "storage", "bus"].contains(&own);
        return impure.then_some("models and pure rules do no IO and know no framework");
    }
    if adapter {
        let logic = rank(own).is_some() && !of_model && own != folder;
        return (own == "http" || logic && own != "connector" || external == "axum")
            .then_some("adapters know models and their driver, never logic or HTTP");
    }
    rank(folder)?; // app, main, http, auth: the wiring and the frame around handlers
    if DRIVERS.contains(&external) || store_adapter {
        return Some("only adapters know a driver, and only the wiring knows an adapter");
    }
    if name == "routes.rs" {
        let foreign_routes = part(2) == "routes" && own != folder;
        return (foreign_routes || own == "store").then_some(
            "routes use their own logic, never the store or another capability's routes",
        );
    }
    if external == "axum" || (own == "http" && part(2) != "problem") {
        return Some("logic knows no HTTP framework");
    }
    let leftward = rank(own).is_some_and(|to| {
        own != folder && !of_model && rank(folder).is_some_and(|from| to <= from)
    });
    leftward.then_some("logic uses only logic to its right")
}

fn sources(root: &Path) -> Vec<(String, std::path::PathBuf)> {
    walkdir::WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), path))
        .collect()
}

#[test]
fn the_service_keeps_to_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src");
    let files = sources(&root);
    assert!(files.len() > 15, "the service's sources were not found in {}", root.display());
    let mut objections = Vec::new();
    for (name, path) in &files {
        for used in paths_of(path) {
            if let Some(why) = objection(name, &used) {
                objections.push(format!("{name} names {}: {why}", used.join("::")));
            }
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn the_wire_is_only_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/src");
    for (name, path) in sources(&root) {
        for used in paths_of(&path) {
            let first = used.first().unwrap().as_str();
            let banned = ["tokio", "axum", "reqwest", "hyper"].contains(&first)
                || used.starts_with(&["std".to_owned(), "fs".to_owned()])
                || used.starts_with(&["std".to_owned(), "net".to_owned()]);
            assert!(!banned, "wire/src/{name} names {}", used.join("::"));
        }
    }
}

#[test]
fn files_have_headers_sizes_and_names_as_agreed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for part in [
        "api/src",
        "auth-tracker/src",
        "auth-tracker/sidecar/src",
        "wire/src",
        "worker/src",
        "ctl/src",
        "tests/src",
    ] {
        for (name, path) in sources(&root.join(part)) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//!"), "{part}/{name} does not say what it owns");
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            assert!(lines <= 400, "{part}/{name} has {lines} lines before its tests");
            for stem in name.trim_end_matches(".rs").split('/') {
                let drawer = ["util", "utils", "common", "helpers", "misc"].contains(&stem);
                assert!(!drawer, "{part}/{name}: a name that says nothing");
            }
        }
    }
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let named = |file: &str, path: &str| {
        objection(file, &path.split("::").map(str::to_owned).collect::<Vec<_>>()).is_some()
    };
    assert!(named("runs/model.rs", "tokio::time::sleep"));
    assert!(named("runs/list.rs", "axum::Json"));
    assert!(named("runs/list.rs", "crate::store::sqlite::SqliteStore"));
    assert!(named("runs/routes.rs", "crate::store::RunStore"));
    assert!(named("recipients/list.rs", "crate::runs::dispatch::dispatch"));
    assert!(named("store/sqlite/runs.rs", "crate::runs::dispatch::dispatch"));
    assert!(named("config/execution.rs", "crate::store::Stores"));
    assert!(!named("runs/list.rs", "crate::store::RunStore"));
    assert!(!named("execution/claim.rs", "crate::playbooks::address::sign"));
    assert!(!named("store/sqlite/runs.rs", "crate::execution::outcome::FinalStates"));
    assert!(!named("recipients/list.rs", "crate::runs::model::Rows"));
}
