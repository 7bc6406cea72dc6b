//! Times in words, as people read them in lists.

use jiff::Timestamp;

/// How long ago something was, in Docker's words: `5 minutes ago`. The text itself where it is no time.
pub(crate) fn ago(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => format!("{} ago", how_long(seconds_since(time))),
        Err(_) => time.to_owned(),
    }
}

/// How long something has been going on: `5 minutes`.
pub(crate) fn since(time: &str) -> String {
    time.parse::<Timestamp>()
        .map(|time| how_long(seconds_since(time)))
        .unwrap_or_default()
}

fn seconds_since(time: Timestamp) -> i64 {
    Timestamp::now().as_second() - time.as_second()
}

fn how_long(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_as_docker_tells_them() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (300, "5 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (21 * 86400, "3 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(how_long(seconds), words);
        }
    }
}
