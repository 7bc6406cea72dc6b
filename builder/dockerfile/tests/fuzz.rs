//! Dockerfiles and lists of what is ignored, changed by chance: each is read and printed, or refused.

#[path = "../../../fuzz/chance.rs"]
mod chance;

use dhow_dockerfile::{Dockerfile, IgnoreFile, Wildcard};

fn examples() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Dockerfile.examples");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the examples").flatten() {
        seeds.extend(std::fs::read(entry.path().join("Dockerfile")));
    }
    assert!(!seeds.is_empty(), "no example");
    seeds.push(
        b"# escape=`\nARG A=b\nFROM --platform=$A x:${A:-1} AS b\nRUN <<E cat `\n<<-'F'\na\nE\nb\n\tF\nCOPY --chown=1:2 --from=b [\"a b\", \"/\"]\n"
            .to_vec(),
    );
    seeds.push(b"FROM scratch\nENV a=\"${b:+$c}\" d='e f'\nHEALTHCHECK --interval=5s CMD [\"x\"]\nONBUILD ADD *.tar /\nEXPOSE 1-3/udp\n".to_vec());
    seeds.push(b"FROM x\nRUN <<E\na\nE\nCOPY <<A a <<-\"B\" /c\n1\nA\n\t2\nB\n".to_vec());
    seeds
}

#[test]
fn no_dockerfile_takes_the_program_down() {
    let words = [
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "<<EOF",
        "\nEOF\n",
        "--mount=",
        "--from=",
        "\\\n",
        "`\n",
        "# escape=",
        "${",
        "}",
        "${a:-${b}}",
        "[\"",
        "\"]",
        "'",
        "\\\u{b}\n",
        "`\u{a0}\n",
        "COPY a <<E",
        "ENV a b",
        "\nE\n",
        "ONBUILD ",
        "ARG ",
        "$",
        "#",
    ];
    let tried = chance::try_many(&examples(), &words, 10_000, |text| {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        match Dockerfile::parse("Dockerfile", text) {
            Ok(read) => {
                let printed = read.to_string();
                assert!(!printed.is_empty());
                // What is printed is read as the same.
                let again = Dockerfile::parse("printed", &printed).unwrap_or_else(|error| {
                    panic!("{text:?} is printed as {printed:?}, which cannot be read: {error}")
                });
                assert_eq!(again.to_string(), printed, "of {text:?}");
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}

#[test]
fn no_pattern_hangs() {
    let seeds = [
        "*.o\n!keep.o\n# no\n**/x?[a-z]\n",
        "a/**/b/*/c\n",
        "[^a-\\]]*\\*",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    let words = ["*", "**", "?", "[", "]", "^", "!", "\\", "/", "a-z", "**/"];
    let name = "a/b/".repeat(40) + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.o";
    let tried = chance::try_many(&seeds, &words, 5_000, |text| {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        if let Ok(pattern) = Wildcard::path(text) {
            let _ = pattern.matches(&name);
        }
        IgnoreFile::parse(".dockerignore", text).is_ok_and(|file| {
            let _ = file.ignores(&name);
            true
        })
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}
