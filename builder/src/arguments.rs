//! `ARG`s: which are known where, and what value they have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use dhow_image::Platform;

/// Proxies, which a build takes without an `ARG` and keeps out of image and cache.
const PROXIES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// What is given for a whole build.
pub(crate) struct Given<'a> {
    values: &'a BTreeMap<String, String>,
    platform: &'a Platform,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Given<'a> {
    pub(crate) fn new(values: &'a BTreeMap<String, String>, platform: &'a Platform) -> Self {
        Self {
            values,
            platform,
            used: RefCell::default(),
        }
    }

    /// The person's value for a declared argument.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let value = self.values.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(value.clone())
    }

    /// What a build knows of itself: the platforms.
    pub(crate) fn platform(&self, name: &str) -> Option<String> {
        let platform = self.platform;
        let rest = name
            .strip_prefix("TARGET")
            .or_else(|| name.strip_prefix("BUILD"))?;
        match rest {
            "PLATFORM" => Some(platform.to_string()),
            "OS" => Some(platform.os.clone()),
            "ARCH" => Some(platform.architecture.clone()),
            "VARIANT" => Some(platform.variant.clone().unwrap_or_default()),
            _ => None,
        }
    }

    /// The proxies that were given.
    pub(crate) fn proxies(&self) -> Vec<String> {
        self.values
            .iter()
            .filter(|(name, _)| is_proxy(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// The names that nobody asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.values
            .keys()
            .filter(|name| !used.contains(*name) && !is_proxy(name))
            .cloned()
            .collect()
    }
}

fn is_proxy(name: &str) -> bool {
    PROXIES
        .iter()
        .any(|proxy| *proxy == name || proxy.to_uppercase() == name)
}

/// The arguments that are declared at one place of a Dockerfile, in the order of their declaration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    declared: Vec<(String, Option<String>)>,
}

impl Scope {
    pub(crate) fn declare(&mut self, name: &str, value: Option<String>) {
        self.declared.retain(|(other, _)| other != name);
        self.declared.push((name.to_owned(), value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.declared
            .iter()
            .find(|(other, _)| other == name)
            .and_then(|(_, value)| value.clone())
    }

    /// `NAME=VALUE` of those that have a value, without proxies.
    pub(crate) fn environment(&self) -> Vec<String> {
        self.declared
            .iter()
            .filter(|(name, _)| !is_proxy(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }
}
