//! Names of signals.

/// The names in the order of their numbers, from 1 (x86, arm, riscv and most others).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by its number, its name with or without SIG, or as `RTMIN+N` and `RTMAX-N`.
pub fn parse(text: &str) -> Option<i32> {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    if let Ok(number) = text.parse::<i32>() {
        return (0..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let real_time = |rest: &str, base: i32| {
        if rest.is_empty() {
            return Some(base);
        }
        let number = base + rest.parse::<i32>().ok()?;
        (RTMIN..=RTMAX).contains(&number).then_some(number)
    };
    match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        _ => name
            .strip_prefix("RTMIN")
            .and_then(|rest| real_time(rest, RTMIN))
            .or_else(|| {
                name.strip_prefix("RTMAX")
                    .and_then(|rest| real_time(rest, RTMAX))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("WINCH", 28),
            ("SIGSYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "FOO", "-1", "65", "SIGRTMIN+99", "SIG"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
