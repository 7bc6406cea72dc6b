//! The `--name=value` words between an instruction's keyword and its arguments.

use crate::lines::Line;
use crate::words::raw_words;
use crate::{DockerfileError, Source, Span, Word, nearest};

/// The flags of one instruction.
pub(crate) struct Flags<'a> {
    source: &'a Source,
    flags: Vec<Flag>,
    /// Where the arguments start.
    pub(crate) rest: usize,
}

/// One flag.
#[derive(Clone)]
pub(crate) struct Flag {
    /// Its name, without the dashes.
    pub(crate) name: String,
    /// What stands after `=`.
    pub(crate) value: Option<Word>,
    /// The whole word.
    pub(crate) span: Span,
}

impl<'a> Flags<'a> {
    /// Reads the flags that stand from `from` on.
    pub(crate) fn read(source: &'a Source, line: &Line, from: usize, escape: char) -> Self {
        let mut flags = Vec::new();
        let mut rest = line.text.len();
        for (start, end) in raw_words(&line.text[from..], escape) {
            let (start, end) = (from + start, from + end);
            let text = &line.text[start..end];
            let Some(flag) = text.strip_prefix("--") else {
                rest = start;
                break;
            };
            if flag.is_empty() {
                // `--` alone ends the flags.
                rest = end;
                break;
            }
            let (name, value) = match flag.find('=') {
                Some(at) => (&flag[..at], Some(line.word(start + 2 + at + 1, end))),
                None => (flag, None),
            };
            flags.push(Flag {
                name: name.to_owned(),
                value,
                span: line.span(start, end),
            });
        }
        Self {
            source,
            flags,
            rest,
        }
    }

    /// Takes the flag of this name, which needs a value and may stand once.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<Word>, DockerfileError> {
        let mut values = self.values(name)?;
        if values.len() > 1 {
            return Err(self.source.error(
                values[1].span,
                format!("--{name} is given twice"),
                format!("expected one --{name}"),
            ));
        }
        Ok(values.pop())
    }

    /// Takes the flags of this name, each of which needs a value.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<Word>, DockerfileError> {
        let source = self.source;
        self.take(name)
            .into_iter()
            .map(|flag| {
                flag.value.ok_or_else(|| {
                    source.error(
                        flag.span,
                        format!("--{name} has no value"),
                        format!("expected --{name}=..."),
                    )
                })
            })
            .collect()
    }

    /// Takes a flag that is `true` where it has no value.
    pub(crate) fn switch(&mut self, name: &str) -> Result<Option<bool>, DockerfileError> {
        let Some(flag) = self.take(name).pop() else {
            return Ok(None);
        };
        match flag.value.as_ref().map(|word| word.text.as_str()) {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.source.error(
                flag.span,
                format!("--{name}={other} is neither true nor false"),
                format!("expected --{name}, --{name}=true or --{name}=false"),
            )),
        }
    }

    fn take(&mut self, name: &str) -> Vec<Flag> {
        let (taken, kept) = self.flags.drain(..).partition(|flag| flag.name == name);
        self.flags = kept;
        taken
    }

    /// Refuses what was not taken: `known` are the instruction's flags; `refused` those of Docker that dhow does not
    /// have, each with what to do instead.
    pub(crate) fn end(
        self,
        keyword: &str,
        known: &[&str],
        refused: &[(&str, &str)],
    ) -> Result<usize, DockerfileError> {
        let Some(flag) = self.flags.first() else {
            return Ok(self.rest);
        };
        if let Some((name, instead)) = refused.iter().find(|(name, _)| *name == flag.name) {
            return Err(self.source.error(
                flag.span,
                format!("{keyword} --{name} is not supported"),
                *instead,
            ));
        }
        let expected = match nearest(&flag.name, known.iter().copied()) {
            Some(near) => format!("did you mean --{near}?"),
            None if known.is_empty() => format!("{keyword} has no flags"),
            None => format!("expected one of --{}", known.join(", --")),
        };
        Err(self.source.error(
            flag.span,
            format!("unknown flag --{} for {keyword}", flag.name),
            expected,
        ))
    }
}
