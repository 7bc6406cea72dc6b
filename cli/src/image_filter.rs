//! Which images a list shows and a removal takes: `--filter` in Docker's words.

use std::collections::HashMap;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use dhow_image::ImageReference;
use dhow_image_store::{Image, Store};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use crate::images;

/// One condition, as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// Whether no name stands for it.
    Dangling(bool),
    /// A label that it has, with this value if one is named.
    Label(String, Option<String>),
    /// The same of one that it does not have.
    NoLabel(String, Option<String>),
    /// An image before which it was made.
    Before(String),
    /// An image after which it was made.
    Since(String),
    /// A time before which it was made.
    Until(Timestamp),
    /// The form of its name.
    Reference(String),
}

/// Conditions that are all to be met, with what they name looked up.
pub(crate) struct Filters(Vec<(Filter, Option<Timestamp>)>);

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let label = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        Ok(match text.split_once('=') {
            Some(("dangling", "true" | "1")) => Self::Dangling(true),
            Some(("dangling", "false" | "0")) => Self::Dangling(false),
            Some(("label", rest)) => {
                let (key, value) = label(rest);
                Self::Label(key, value)
            }
            Some(("label!", rest)) => {
                let (key, value) = label(rest);
                Self::NoLabel(key, value)
            }
            Some(("before", image)) => Self::Before(image.to_owned()),
            Some(("since" | "after", image)) => Self::Since(image.to_owned()),
            Some(("until", when)) => Self::Until(moment(when)?),
            Some(("reference", pattern)) => Self::Reference(pattern.to_owned()),
            _ => bail!(
                "{text:?} is no filter; use dangling=true|false, label=KEY[=VALUE], label!=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME or reference=PATTERN"
            ),
        })
    }
}

impl Filters {
    /// Looks up the images that the conditions name.
    ///
    /// # Errors
    /// When there is no such image, or it does not say when it was made; when a name is none.
    pub(crate) fn new(filters: &[Filter], store: &Store) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for filter in filters {
            let time = match filter {
                Filter::Before(text) | Filter::Since(text) => {
                    let image = images::find(store, text)?;
                    let time = made(&image);
                    Some(time.with_context(|| format!("{text} does not say when it was made"))?)
                }
                Filter::Reference(text) if !text.contains(['*', '?']) => {
                    // A name that can be nobody's is a mistake and no empty list.
                    text.parse::<ImageReference>()?;
                    None
                }
                _ => None,
            };
            found.push((filter.clone(), time));
        }
        Ok(Self(found))
    }

    /// Whether an image under one of its names meets them all.
    pub(crate) fn fit(&self, image: &Image, name: Option<&ImageReference>) -> bool {
        self.0.iter().all(|(filter, time)| match filter {
            Filter::Dangling(wanted) => name.is_none() == *wanted,
            Filter::Label(key, value) => has_label(image, key, value.as_deref()),
            Filter::NoLabel(key, value) => !has_label(image, key, value.as_deref()),
            Filter::Before(_) => made(image).zip(*time).is_some_and(|(own, time)| own < time),
            Filter::Since(_) => made(image).zip(*time).is_some_and(|(own, time)| own > time),
            Filter::Until(time) => made(image).is_some_and(|made| made < *time),
            Filter::Reference(pattern) => name.is_some_and(|name| is_called(name, pattern)),
        })
    }
}

fn made(image: &Image) -> Option<Timestamp> {
    image.created()?.parse().ok()
}

fn has_label(image: &Image, key: &str, value: Option<&str>) -> bool {
    let config = image.config().config().as_ref();
    let labels: Option<&HashMap<String, String>> = config.and_then(|c| c.labels().as_ref());
    let found = labels.and_then(|labels| labels.get(key));
    found.is_some_and(|found| value.is_none_or(|value| found == value))
}

/// Whether a pattern fits a name, in its short form or in full, with its tag or without.
fn is_called(name: &ImageReference, pattern: &str) -> bool {
    let full = format!("{}/{}", name.registry(), name.repository());
    let forms = [
        name.familiar_name(),
        name.familiar(),
        full,
        name.to_string(),
    ];
    let pattern: Vec<char> = pattern.chars().collect();
    forms
        .iter()
        .any(|form| fits(&pattern, &form.chars().collect::<Vec<_>>()))
}

/// As file names fit a shell's pattern: `*` and `?` stand for no slash.
fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => {
            let end = text.iter().position(|c| *c == '/').unwrap_or(text.len());
            (0..=end).any(|at| fits(rest, &text[at..]))
        }
        Some((one, rest)) => match text.split_first() {
            Some((c, after)) => (c == one || *one == '?' && *c != '/') && fits(rest, after),
            None => false,
        },
    }
}

/// A time as Docker's filters have it: how long ago (`24h`, `1h30m`), seconds since 1970, or a date with or without a time of day.
fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).context("so late a time is not known");
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<civil::DateTime>() {
        return Ok(local.to_zoned(TimeZone::system())?.timestamp());
    }
    let ago: SignedDuration = text.parse().map_err(|_| {
        anyhow!(
            "{text:?} is no time; write how long ago, as 24h, or a date, as 2024-05-31T12:00:00"
        )
    })?;
    Ok(Timestamp::now().checked_sub(ago)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_within_their_part() {
        let fit = |pattern: &str, name: &str| is_called(&name.parse().unwrap(), pattern);
        for pattern in [
            "busybox",
            "busy*",
            "b?sybox",
            "busybox:1",
            "*:1",
            "docker.io/library/busybox",
            "docker.io/*/busybox:*",
        ] {
            assert!(fit(pattern, "busybox:1"), "{pattern}");
        }
        for pattern in ["busy", "busybox:2", "", "?", "*:2"] {
            assert!(!fit(pattern, "busybox:1"), "{pattern}");
        }
        assert!(fit("*/app", "team/app") && !fit("*", "quay.io/team/app"));
    }

    #[test]
    fn times_are_read_in_all_their_forms() {
        let text = |text: &str| moment(text).unwrap().to_string();
        assert_eq!(text("0"), "1970-01-01T00:00:00Z");
        assert_eq!(text("2024-05-31T12:00:00Z"), "2024-05-31T12:00:00Z");
        assert!(moment("2024-05-31").is_ok() && moment("2024-05-31T12:00").is_ok());
        let ago = |now: Timestamp| now - SignedDuration::from_mins(90);
        let earliest = ago(Timestamp::now());
        let found = moment("1h30m").unwrap();
        assert!(
            earliest <= found && found <= ago(Timestamp::now()),
            "{found}"
        );
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn what_is_no_filter_is_told_what_there_is() {
        for text in ["size=3", "dangling", "dangling=maybe", "until=soon"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
