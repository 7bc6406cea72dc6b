//! What `run` and `create` take for a container's user namespace, in podman's words.

use anyhow::{Context as _, bail, ensure};
use dhow_container_spec::{IdRange, UserNamespace};
use dhow_engine::AutoIds;

#[derive(clap::Args)]
#[command(next_help_heading = "User namespace")]
pub(crate) struct UserNamespaceArgs {
    /// host: none of its own; auto: one with ids that no other container has, OPTIONS are size=NUMBER, uidmapping=RANGE and
    /// gidmapping=RANGE; private: one with the ids of --uidmap and --gidmap [default: host, or private where there are these]
    #[arg(long, value_name = "host|auto[:OPTIONS]|private")]
    userns: Option<String>,
    /// Give it a user namespace in which these users are those of the host; the groups are mapped so too, where nothing else is said
    #[arg(long, value_name = "CONTAINER:HOST:LENGTH", value_delimiter = ',')]
    uidmap: Vec<IdRange>,
    /// The same for groups
    #[arg(long, value_name = "CONTAINER:HOST:LENGTH", value_delimiter = ',')]
    gidmap: Vec<IdRange>,
}

/// Which user namespace a container gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserNamespaceChoice {
    /// None of its own.
    Host,
    /// One with these ids.
    Own(UserNamespace),
    /// One with ids that are chosen when it is created.
    Auto(AutoIds),
}

impl UserNamespaceArgs {
    pub(crate) fn choice(&self) -> anyhow::Result<UserNamespaceChoice> {
        let is_mapped = !self.uidmap.is_empty() || !self.gidmap.is_empty();
        let (mode, options) = match self.userns.as_deref() {
            Some(text) => text.split_once(':').unwrap_or((text, "")),
            None if is_mapped => ("private", ""),
            None => ("host", ""),
        };
        let choice = match mode {
            "host" | "private" if !options.is_empty() => {
                bail!("--userns {mode} takes no options; leave :{options} away")
            }
            "host" => UserNamespaceChoice::Host,
            "auto" => UserNamespaceChoice::Auto(auto(options)?),
            "private" => return self.own(),
            "keep-id" | "nomap" => bail!(
                "--userns {mode} is not supported: it is for users without root, for whom the kernel maps no owners of files; \
                 say with --uidmap who is whom, as root"
            ),
            "container" | "ns" => bail!(
                "--userns {mode}: containers do not share user namespaces; give each one with --userns auto or --uidmap"
            ),
            _ => {
                bail!("--userns {mode}: there is no such user namespace; use host, auto or private")
            }
        };
        ensure!(
            !is_mapped,
            "--userns {mode} and --uidmap or --gidmap exclude each other; leave one away"
        );
        Ok(choice)
    }

    fn own(&self) -> anyhow::Result<UserNamespaceChoice> {
        let (uids, gids) = match (&self.uidmap, &self.gidmap) {
            (uids, gids) if uids.is_empty() => (gids, gids),
            (uids, gids) if gids.is_empty() => (uids, uids),
            both => both,
        };
        ensure!(
            !uids.is_empty(),
            "--userns private takes --uidmap, for example --uidmap 0:100000:65536; or use --userns auto"
        );
        let own = UserNamespace::new(uids.clone(), gids.clone());
        Ok(UserNamespaceChoice::Own(own.context("--uidmap, --gidmap")?))
    }
}

/// `size=NUMBER,uidmapping=RANGE,gidmapping=RANGE`, each as often as it is wanted.
fn auto(options: &str) -> anyhow::Result<AutoIds> {
    let mut auto = AutoIds::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = || format!("--userns auto:{option}");
        match key {
            "size" => {
                let size = value.parse().ok().filter(|size| *size > 0);
                let size =
                    size.with_context(|| format!("{}: write a number of ids, 1 or more", wrong()))?;
                auto.size = Some(size);
            }
            "uidmapping" => auto.uids.push(value.parse().with_context(wrong)?),
            "gidmapping" => auto.gids.push(value.parse().with_context(wrong)?),
            _ => bail!(
                "{}: there is no such option; there are size, uidmapping and gidmapping",
                wrong()
            ),
        }
    }
    Ok(auto)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UserNamespaceArgs,
    }

    fn choice(words: &[&str]) -> anyhow::Result<UserNamespaceChoice> {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words)?.args.choice()
    }

    fn range(text: &str) -> IdRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_map_alone_means_a_namespace_with_it_for_both_kinds() {
        let (users, groups) = (vec![range("0:1:2"), range("2:5:6")], vec![range("0:7:1")]);
        let own = |users: &Vec<IdRange>, groups: &Vec<IdRange>| {
            let own = UserNamespace::new(users.clone(), groups.clone()).unwrap();
            UserNamespaceChoice::Own(own)
        };
        let both = ["--uidmap", "0:1:2", "--uidmap=2:5:6", "--gidmap", "0:7:1"];
        assert_eq!(choice(&both).unwrap(), own(&users, &groups));
        let uids = ["--userns=private", "--uidmap", "0:1:2,2:5:6"];
        assert_eq!(choice(&uids).unwrap(), own(&users, &users));
        assert_eq!(choice(&["--gidmap=0:7:1"]).unwrap(), own(&groups, &groups));
        assert_eq!(choice(&[]).unwrap(), UserNamespaceChoice::Host);
        assert_eq!(
            choice(&["--userns", "host"]).unwrap(),
            UserNamespaceChoice::Host
        );
    }

    #[test]
    fn ids_to_be_chosen_can_be_bounded_and_partly_said() {
        let choice = choice(&["--userns=auto:size=5000,uidmapping=0:7:1,gidmapping=1:8:1"]);
        let auto = AutoIds {
            size: Some(5000),
            uids: vec![range("0:7:1")],
            gids: vec![range("1:8:1")],
        };
        assert_eq!(choice.unwrap(), UserNamespaceChoice::Auto(auto));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        for (words, said) in [
            (&["--userns", "private"][..], "takes --uidmap"),
            (
                &["--userns", "auto", "--uidmap", "0:1:1"],
                "exclude each other",
            ),
            (
                &["--userns", "host", "--gidmap", "0:1:1"],
                "exclude each other",
            ),
            (&["--userns", "keep-id"], "without root"),
            (&["--userns", "container:web"], "do not share"),
            (&["--userns", "own"], "use host, auto or private"),
            (&["--userns", "host:size=1"], "takes no options"),
            (&["--userns", "auto:size=0"], "1 or more"),
            (&["--userns", "auto:sise=1"], "there are size"),
            (
                &["--userns", "auto:uidmapping=0:1"],
                "CONTAINER:HOST:LENGTH",
            ),
            (&["--uidmap", "0:1:0"], "length of 1 or more"),
            (&["--uidmap", "0:1:2", "--uidmap", "1:9:2"], "overlap"),
            (&["--uidmap", "1:1:2"], "is 0"),
        ] {
            let error = format!("{:#}", choice(words).unwrap_err());
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }
}
