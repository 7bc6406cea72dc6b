//! Which files sources and patterns name, and what their digest depends on.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    root: RootDir,
    ignore: IgnoreFile,
}

impl Fixture {
    fn new(files: &[&str], ignore: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, file).unwrap();
        }
        Self {
            root: RootDir::open(dir.path()).unwrap(),
            dir,
            ignore: IgnoreFile::parse(".dockerignore", ignore).unwrap(),
        }
    }

    fn tree(&self, excludes: &[&str]) -> SourceTree<'_> {
        SourceTree {
            root: &self.root,
            ignore: &self.ignore,
            excludes: IgnoreFile::of_patterns("--exclude", excludes.iter().copied()).unwrap(),
            title: "the context".into(),
            ignored_by: ": .dockerignore leaves it out".into(),
            keeps_owners: false,
        }
    }

    fn names(&self, sources: &[&str], excludes: &[&str]) -> Vec<String> {
        let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
        let items = self.tree(excludes).items(&sources).unwrap();
        items
            .iter()
            .flat_map(|item| {
                item.entries
                    .iter()
                    .map(|entry| item.path_of(entry).display().to_string())
            })
            .collect()
    }

    fn digest(&self, source: &str) -> Digest {
        let tree = self.tree(&[]);
        let items = tree.items(&[source.to_owned()]).unwrap();
        tree.digest(&items).unwrap()
    }
}

#[test]
fn names_patterns_and_ignore_rules() {
    let fixture = Fixture::new(
        &["a.txt", "b.txt", "c.md", "d/e.txt", "d/f/g.txt", "d/h.o"],
        "*.md\nd\n!d/f\n",
    );
    assert_eq!(fixture.names(&["*.txt"], &[]), ["a.txt", "b.txt"]);
    assert_eq!(
        fixture.names(&["/a.txt", "../b.txt"], &[]),
        ["a.txt", "b.txt"]
    );
    assert_eq!(fixture.names(&["d"], &[]), ["d", "d/f", "d/f/g.txt"]);
    assert_eq!(fixture.names(&["*/f/*.txt"], &[]), ["d/f/g.txt"]);
    assert_eq!(fixture.names(&["*.nothing"], &[]), Vec::<String>::new());
    assert_eq!(fixture.names(&["d"], &["g.*"]), ["d", "d/f", "d/f/g.txt"]);
    assert_eq!(fixture.names(&["d"], &["**/g.*"]), ["d", "d/f"]);
    let mistake = |name: &str| {
        let error = fixture.tree(&[]).items(&[name.to_owned()]).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        mistake("c.md"),
        "c.md is not in the context: .dockerignore leaves it out"
    );
    assert_eq!(
        mistake("a.tx"),
        "a.tx is not in the context; did you mean a.txt?"
    );
}

#[test]
fn links_do_not_lead_out_of_the_context() {
    let fixture = Fixture::new(&["in/file"], "");
    symlink("/etc/passwd", fixture.dir.path().join("passwd")).unwrap();
    symlink("../../../../../../etc", fixture.dir.path().join("etc")).unwrap();
    symlink("in", fixture.dir.path().join("link")).unwrap();
    for name in ["passwd", "etc/passwd"] {
        assert!(fixture.tree(&[]).items(&[name.to_owned()]).is_err());
    }
    assert_eq!(fixture.names(&["link"], &[]), ["in", "in/file"]);
    // As an entry of a directory a link is a link.
    assert_eq!(
        fixture.names(&["."], &[]),
        ["", "etc", "in", "in/file", "link", "passwd"]
    );
}

#[test]
fn the_digest_sees_contents_modes_and_names_but_not_times() {
    let fixture = Fixture::new(&["d/a", "d/b"], "");
    let before = fixture.digest("d");
    let file = fixture.dir.path().join("d/a");
    let touched = std::fs::File::options().write(true).open(&file).unwrap();
    touched
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(fixture.digest("d"), before);
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mode = fixture.digest("d");
    assert_ne!(mode, before);
    fs_err::write(&file, "other").unwrap();
    let content = fixture.digest("d");
    assert_ne!(content, mode);
    fs_err::rename(&file, fixture.dir.path().join("d/c")).unwrap();
    assert_ne!(fixture.digest("d"), content);
}
