//! The code against the tables in docs/ARCHITECTURE.md.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Rooms whose programs may do asynchronous work, and the crates that are a sign of it.
const ASYNC_ROOMS: [&str; 3] = ["dhow-registry-client", "dhow-registry-server", "dhow"];
const ASYNC_CRATES: [&str; 4] = ["tokio", "hyper", "axum", "rustls"];

struct Room {
    folder: String,
    krate: String,
    may_use: BTreeSet<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The rows of the table of rooms; `may use` names folders' crates without the prefix.
fn rooms() -> Vec<Room> {
    let text = fs_err::read_to_string(workspace().join("docs/ARCHITECTURE.md")).unwrap();
    let rows: Vec<Room> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect::<Vec<_>>())
        .filter(|cells| cells.len() == 4 && cells[0].ends_with('/'))
        .map(|cells| Room {
            folder: cells[0].trim_end_matches('/').to_owned(),
            krate: cells[1].to_owned(),
            may_use: cells[3]
                .split(", ")
                .filter(|name| *name != "-")
                .map(|name| format!("dhow-{name}"))
                .collect(),
        })
        .collect();
    assert!(rows.len() > 10, "the table of rooms was not found");
    rows
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        // What other systems would need is neither here nor of interest.
        .other_options(vec![
            "--filter-platform".into(),
            format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .exec()
        .unwrap()
}

fn used(package: &Package) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.clone())
        .collect()
}

#[test]
fn the_crates_are_the_rows_of_the_table() {
    let root = workspace();
    let table: BTreeMap<String, String> = rooms()
        .into_iter()
        .map(|room| (room.folder, room.krate))
        .collect();
    let code: BTreeMap<String, String> = metadata()
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let folder = package.manifest_path.parent().unwrap();
            let folder = folder.as_std_path().strip_prefix(&root).unwrap();
            (
                folder.to_str().unwrap().to_owned(),
                package.name.to_string(),
            )
        })
        .collect();
    assert_eq!(table, code);
}

#[test]
fn every_arrow_is_in_the_table() {
    let metadata = metadata();
    let members: BTreeSet<String> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| package.name.to_string())
        .collect();
    for room in rooms() {
        let package = metadata
            .workspace_packages()
            .into_iter()
            .find(|package| package.name.as_str() == room.krate)
            .unwrap_or_else(|| panic!("no crate {}", room.krate));
        let arrows: BTreeSet<String> = used(package).intersection(&members).cloned().collect();
        assert_eq!(
            arrows, room.may_use,
            "what {} uses of the others",
            room.krate
        );
    }
}

#[test]
fn asynchronous_crates_stay_in_their_rooms() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        if ASYNC_ROOMS.contains(&package.name.as_str()) {
            continue;
        }
        let reached = reached_from(&metadata, package);
        for krate in ASYNC_CRATES {
            assert!(!reached.contains(krate), "{} reaches {krate}", package.name);
        }
    }
}

/// Every package that a package's normal dependencies reach.
fn reached_from(metadata: &Metadata, package: &Package) -> BTreeSet<String> {
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .as_ref()
        .unwrap()
        .nodes
        .iter()
        .map(|node| (&node.id, node))
        .collect();
    let mut reached = BTreeSet::new();
    let mut todo = vec![&package.id];
    while let Some(id) = todo.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if normal && reached.insert(metadata[&dependency.pkg].name.to_string()) {
                todo.push(&dependency.pkg);
            }
        }
    }
    reached
}

#[test]
fn unsafe_stands_only_in_sys() {
    let root = workspace();
    for room in rooms().into_iter().filter(|room| room.folder != "sys") {
        for file in rust_files(&root.join(&room.folder)) {
            let text = fs_err::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap();
                let words: Vec<&str> = code
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .collect();
                assert!(
                    !words.contains(&"unsafe") || code.contains('"'),
                    "{}:{}: unsafe outside sys",
                    file.display(),
                    number + 1
                );
            }
        }
        let manifest = fs_err::read_to_string(root.join(&room.folder).join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} does not take the workspace's lints, which forbid unsafe",
            room.folder
        );
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_runtime_is_static() {
    let program = dhow_integration_tests::program("dhow-runtime");
    let bytes = fs_err::read(&program).unwrap();
    let interpreter = b"/ld-linux";
    assert!(
        !bytes.windows(interpreter.len()).any(|w| w == interpreter),
        "{} asks for a dynamic linker",
        program.display()
    );
}

#[test]
fn the_runtime_is_small() {
    let program = dhow_integration_tests::program("dhow-runtime");
    let size = fs_err::metadata(&program).unwrap().len();
    // What swells it is mostly one crate too many; docs/PERFORMANCE.md tells how to find which.
    assert!(size < 4 << 20, "{} is {size} bytes", program.display());
}

/// fuzz/ stands outside the workspace; of the house it uses what it tries, and no `unsafe` either.
#[test]
fn fuzz_targets_use_what_they_try() {
    let dir = workspace().join("fuzz");
    let manifest = fs_err::read_to_string(dir.join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("\n[workspace]\n"),
        "a workspace of its own"
    );
    let rooms: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.split_once(" = { path"))
        .map(|(name, _)| name)
        .collect();
    let tried = [
        "dhow-dockerfile",
        "dhow-image",
        "dhow-layer",
        "dhow-registry-client",
        "dhow-registry-server",
        "dhow-runtime",
    ];
    assert_eq!(rooms, tried);
    for file in rust_files(&dir) {
        let text = fs_err::read_to_string(&file).unwrap();
        assert!(!text.contains("unsafe"), "{}", file.display());
    }
}
