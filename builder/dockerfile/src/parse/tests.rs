//! What is understood of whole Dockerfiles, and how mistakes are shown.

use proptest::prelude::*;

use crate::{CommandLine, Dockerfile, InstructionKind, RunNetwork};

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text).unwrap_or_else(|error| panic!("{error}"))
}

fn mistake(text: &str) -> String {
    Dockerfile::parse("Dockerfile", text)
        .unwrap_err()
        .to_string()
}

/// What the instructions after `FROM scratch` print as.
fn printed(text: &str) -> String {
    parse(&format!("FROM scratch\n{text}\n"))
        .to_string()
        .trim_start_matches("FROM scratch\n")
        .trim_end()
        .to_owned()
}

#[test]
fn stages_and_arguments_before_them() {
    let file = parse(
        "# syntax=docker/dockerfile:1\n# a comment\nARG V=1 W\nFROM --platform=$P a:$V AS Build\nRUN x\nfrom build\n",
    );
    assert_eq!(
        file.directives.syntax.as_deref(),
        Some("docker/dockerfile:1")
    );
    assert_eq!(file.args.len(), 2);
    assert_eq!(file.stages.len(), 2);
    assert_eq!(file.stages[0].from.name.as_ref().unwrap().text, "build");
    assert_eq!(
        file.to_string(),
        "# syntax=docker/dockerfile:1\nARG V=1\nARG W\nFROM --platform=$P a:$V AS build\nRUN x\nFROM build\n"
    );
}

#[test]
fn lines_are_continued_over_comments_and_empty_lines() {
    assert_eq!(
        printed("RUN a \\\n# in between\n\n  && b \\  \n  && c"),
        "RUN a   && b   && c"
    );
    assert_eq!(printed("RUN echo a\\\\\nRUN b"), "RUN echo a\\\\\nRUN b");
    let file = parse("# escape=`\nFROM a\nRUN b `\n c\\\n");
    assert!(matches!(&file.stages[0].instructions[0].kind,
        InstructionKind::Run(run) if run.command == CommandLine::Shell("b  c\\".into())));
}

#[test]
fn places_are_found_through_continued_lines() {
    let file = parse("FROM a\nCOPY x \\\n   y \\\n z/\n");
    let InstructionKind::Copy(copy) = &file.stages[0].instructions[0].kind else {
        panic!("a COPY");
    };
    let places: Vec<String> = copy
        .transfer
        .sources
        .iter()
        .chain([&copy.transfer.destination])
        .map(|word| format!("{}-{}", word.span.start, word.span.end))
        .collect();
    assert_eq!(places, ["2:6-2:7", "3:4-3:5", "4:2-4:4"]);
}

#[test]
fn exec_and_shell_form() {
    assert_eq!(printed("CMD [\"a\", \"b c\"]"), "CMD [\"a\", \"b c\"]");
    assert_eq!(printed("CMD ['a']"), "CMD ['a']");
    let file = parse("FROM a\nCMD []\nENTRYPOINT ['a']\nRUN --network=none [ \"x\" ]");
    let kinds: Vec<_> = file.stages[0]
        .instructions
        .iter()
        .map(|i| &i.kind)
        .collect();
    assert_eq!(kinds[0], &InstructionKind::Cmd(CommandLine::Exec(vec![])));
    assert_eq!(
        kinds[1],
        &InstructionKind::Entrypoint(CommandLine::Shell("['a']".into()))
    );
    assert!(matches!(kinds[2], InstructionKind::Run(run)
        if run.network == RunNetwork::None && run.command == CommandLine::Exec(vec!["x".into()])));
}

#[test]
fn pairs_in_both_forms() {
    assert_eq!(
        printed("ENV A=1 B='two words' C=three\\ words"),
        "ENV A=1 B='two words' C=three\\ words"
    );
    assert_eq!(
        printed("ENV A the rest  of it"),
        "ENV A=\"the rest  of it\""
    );
    assert_eq!(printed("LABEL \"a b\"=c"), "LABEL \"a b\"=c");
    assert_eq!(printed("ENV A="), "ENV A=");
    // Neither can be quoted once more.
    for old in ["ENV A it's  \"all one\"", "LABEL A b\\  c d"] {
        assert_eq!(printed(old), old);
    }
}

#[test]
fn an_escape_at_the_end_of_the_file_stays() {
    for last in [
        "ENV a=\\ \\",
        "ENV a=\\b\\ \\",
        "RUN echo \\ \\",
        "WORKDIR /x\\ \\",
        "FROM y\\ \\",
    ] {
        assert_eq!(printed(last), last);
    }
    assert_eq!(printed("ENV a \\ \\"), "ENV a=\\ \\");
}

/// The names and values that the one `ENV` or `LABEL` of the file sets.
fn values(file: &Dockerfile) -> Vec<Option<(String, String)>> {
    let (InstructionKind::Env(pairs) | InstructionKind::Label(pairs)) =
        &file.stages[0].instructions[0].kind
    else {
        panic!("an ENV or a LABEL");
    };
    let variables = |name: &str| (name == "a").then(|| "x  y".to_owned());
    let expand = |word: &crate::Word| word.expand(file.directives.escape, &variables).ok();
    let each = pairs.iter();
    each.map(|pair| Some((expand(&pair.name)?, expand(&pair.value)?)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn printed_pairs_are_the_same_pairs(
        escape in "[\\\\`]",
        keyword in "ENV|LABEL",
        name in "[a-c]{1,2}[\"'\\\\]?[ =]{0,2}",
        rest in "[ab \"'\\\\`$={}:-]{1,14}( ?[\\\\`]){0,2}",
    ) {
        let text = format!("# escape={escape}\nFROM x\n{keyword} {name}{rest}\n");
        if let Ok(file) = Dockerfile::parse("Dockerfile", &text) {
            let again = parse(&file.to_string());
            prop_assert_eq!(values(&again), values(&file), "{}", file);
            prop_assert_eq!(again.to_string(), file.to_string());
        }
    }
}

#[test]
fn copies() {
    for line in [
        "COPY --from=build --chown=$U:g --chmod=755 --exclude=*.o --link a b/ c/",
        "COPY [\"a b\", \"c d\"]",
        "ADD --unpack=false a.tar /x",
        "COPY <<A <<'B' /d/\n$x\nA\ny\nB",
        "VOLUME [\"/a b\"]",
        "VOLUME /a /b",
        "EXPOSE 80 443/tcp",
        "SHELL [\"/bin/bash\", \"-c\"]",
        "WORKDIR /a b",
        "STOPSIGNAL SIGTERM",
        "MAINTAINER A B <c@d>",
        "USER a:b",
        "ARG A B=2",
    ] {
        assert_eq!(printed(line), line);
    }
}

#[test]
fn here_documents_are_scripts_files_or_left_to_the_shell() {
    let script = "RUN <<EOF\na\nb\nEOF\nRUN c";
    assert_eq!(printed(script), script);
    assert_eq!(printed("RUN <<E\nEOF\nE"), "RUN <<EOF_\nEOF\nEOF_");
    // The document is what the command reads, wherever it is announced.
    let read = "RUN <<E cat -\na\nE\n";
    assert_eq!(printed(read), read.trim_end());
    assert!(
        mistake("FROM a\nCOPY b <<E\nc\nE\n")
            .starts_with("Dockerfile:2:8: COPY has no destination behind its here-document")
    );
    assert_eq!(printed("RUN -- --a"), "RUN -- --a");
    assert_eq!(printed("COPY -- --a b"), "COPY -- --a b");
    assert_eq!(
        printed("RUN cat <<-'X' > f\n\ta\n\tX"),
        "RUN cat <<-'X' > f\na\nX"
    );
    assert_eq!(printed("RUN echo \"a <<EOF\""), "RUN echo \"a <<EOF\"");
    assert!(mistake("FROM a\nRUN <<EOF\nb\n").starts_with(
        "Dockerfile:2:5: the here-document EOF does not end\n  |\n2 | RUN <<EOF\n  |     ^^^^^ expected"
    ));
}

#[test]
fn a_mistake_is_shown_with_its_place_marked() {
    assert_eq!(
        mistake("FROM a\n\n  COYP b c\n"),
        "Dockerfile:3:3: unknown instruction COYP\n  |\n3 |   COYP b c\n  |   ^^^^ did you mean COPY?"
    );
    assert_eq!(
        mistake("FROM a\nCOPY --chwon=x b c"),
        "Dockerfile:2:6: unknown flag --chwon for COPY\n  |\n2 | COPY --chwon=x b c\n  |      ^^^^^^^^^ did you mean --chown?"
    );
    assert_eq!(
        mistake("FROM a\nENV A=1 \\\n\tB\n"),
        "Dockerfile:3:2: \"B\" has no '='\n  |\n3 | \tB\n  | \t^ expected NAME=VALUE; quote a value with spaces, as in NAME=\"a b\""
    );
}

#[test]
fn mistakes_name_what_was_expected() {
    for (text, place, message) in [
        ("", "1:1", "there is no FROM"),
        ("# only a comment", "1:1", "there is no FROM"),
        ("RUN a\nFROM b", "1:1", "RUN stands before the first FROM"),
        ("FROM", "1:1", "FROM has no arguments"),
        ("FROM a as", "1:8", "AS has no name"),
        ("FROM a sa b", "1:8", "did you mean AS?"),
        ("FROM a b", "1:8", "FROM takes one image"),
        ("FROM a AS -x", "1:11", "cannot be the name of a stage"),
        ("FROM a AS b\nFROM c AS B", "2:11", "already used in line 1"),
        ("FROM a\nCOPY b", "2:6", "COPY has no destination"),
        (
            "FROM a\nCOPY --parents b c",
            "2:6",
            "--parents is not supported",
        ),
        ("FROM a\nCOPY --from b c", "2:6", "--from has no value"),
        (
            "FROM a\nCOPY --from=$b c d",
            "2:13",
            "variables are not replaced",
        ),
        ("FROM a\nADD http://b/c d", "2:5", "ADD of a URL"),
        ("FROM a\nRUN", "2:1", "RUN has no arguments"),
        (
            "FROM a\nRUN --mount=type=cache,target=/x b",
            "2:5",
            "RUN --mount is not supported",
        ),
        (
            "FROM a\nRUN --network=bridge b",
            "2:15",
            "is no network for a RUN",
        ),
        (
            "FROM a\nRUN --security=insecure b",
            "2:16",
            "every RUN is confined",
        ),
        ("FROM a\nRUN [1]", "2:5", "which is no string"),
        ("FROM a\nSHELL bash -c", "2:7", "as an array only"),
        ("FROM a\nENV A", "2:5", "has no value"),
        ("FROM a\nENV =b", "2:5", "no name before"),
        ("FROM a\nARG 1x=2", "2:5", "cannot be the name of an ARG"),
        ("FROM a\nUSER a b", "2:8", "USER takes one argument"),
        (
            "FROM a\nHEALTHCHECK NONE",
            "2:1",
            "HEALTHCHECK is not supported",
        ),
        ("FROM a\nONBUILD RUN b", "2:1", "ONBUILD is not supported"),
        ("FROM a\nEXPOSE --x", "2:8", "EXPOSE has no flags"),
        (
            "# escape=x\nFROM a",
            "1:1",
            "cannot be the escape character",
        ),
        ("# syntax=other/frontend\nFROM a", "1:1", "cannot be used"),
        ("# escape=`\n# escape=`\nFROM a", "2:1", "given twice"),
    ] {
        let said = mistake(text);
        assert!(
            said.starts_with(&format!("Dockerfile:{place}: ")) && said.contains(message),
            "{text:?}: {said}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(FROM a( AS b)?\n|RUN |COPY |--[a-z]+(=x)? |ENV |\\[\"|\"\\]|<<-?E\n|E\n|\\\\\n|[ \t\r\n$'\"=a#ü☺]){0,30}") {
        if let Err(error) = Dockerfile::parse("Dockerfile", &text) {
            let _ = error.to_string();
        }
    }

    #[test]
    fn what_is_printed_is_understood_the_same(
        lines in proptest::collection::vec("(RUN|CMD|ENTRYPOINT) [a-z ]{1,10}x|(ENV|LABEL) [a-z]=[a-z\"$]{0,5}|COPY [a-z] [a-z]/|USER [a-z]{1,5}", 0..8)
    ) {
        let text = format!("FROM scratch\n{}\n", lines.join("\n"));
        if let Ok(file) = Dockerfile::parse("Dockerfile", &text) {
            let again = Dockerfile::parse("Dockerfile", &file.to_string()).unwrap();
            prop_assert_eq!(file.to_string(), again.to_string());
        }
    }
}
