//! Reading the configuration so that every problem is told at once.
//!
//! Flags come from the command line or the environment through clap; secrets come from the environment or, as
//! `NAME_FILE`, from a file, and never from a flag, since flags are seen by everybody on the machine.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
};

use clap::{
    ArgMatches, Command,
    builder::Resettable,
    error::{ContextKind, ErrorKind},
};

use crate::Secret;

/// Largest secret read from a file, in bytes.
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// A secret setting that a process reads.
#[derive(Debug, Clone, Copy)]
pub struct SecretSpec {
    /// Name of the environment variable; `<name>_FILE` names a file that holds the value.
    pub name: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// Whether the process cannot do without.
    pub required: bool,
}

/// What is wrong with the configuration, each line naming its variable and never a secret's value.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes that `variable` is wrong, and what to do.
    pub fn add(&mut self, variable: &str, problem: impl fmt::Display) {
        self.0.push(format!("{variable}: {problem}"));
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, in the order they were found.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// The secrets that were given.
#[derive(Debug, Clone, Default)]
pub struct Secrets(HashMap<&'static str, Secret>);

impl Secrets {
    /// Reads `specs` from `env` (a look-up of environment variables) and files.
    pub fn read(specs: &[SecretSpec], env: impl Fn(&str) -> Option<String>, problems: &mut Problems) -> Self {
        let mut secrets = HashMap::new();
        for spec in specs {
            let file_variable = format!("{}_FILE", spec.name);
            let given = |name: &str| env(name).filter(|value| !value.trim().is_empty());
            let value = match (given(spec.name), given(&file_variable)) {
                (Some(_), Some(_)) => {
                    problems.add(spec.name, format_args!("given together with {file_variable}; set one of the two"));
                    continue;
                }
                (Some(value), None) => Some(value),
                (None, Some(path)) => match read_file(Path::new(&path)) {
                    Ok(value) => Some(value),
                    Err(problem) => {
                        problems.add(&file_variable, problem);
                        continue;
                    }
                },
                (None, None) => None,
            };
            match value {
                Some(value) => drop(secrets.insert(spec.name, Secret::new(value.trim()))),
                None if spec.required => {
                    problems
                        .add(spec.name, format_args!("missing; set it, or {file_variable} to a file that holds it"));
                }
                None => {}
            }
        }
        Self(secrets)
    }

    /// The secret `name`, if it was given.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("names a file that cannot be read: {error}"))?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(format!("names a file larger than {MAX_SECRET_BYTES} bytes; it should hold one value"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "names a file that is not UTF-8 text".to_owned())?;
    if text.trim().is_empty() {
        return Err("names an empty file".to_owned());
    }
    Ok(text)
}

/// Parses the command line and the environment. A wrong command line is clap's error; wrong values in the environment
/// are all collected into `problems` and read as if they were not set. A variable that is set but blank counts as not
/// set, since that is what an optional key of a ConfigMap gives.
pub fn parse(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Result<ArgMatches, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let variables = variables(command);
    let all: Vec<String> = variables.keys().cloned().collect();
    let mut asked = asked(command, arguments.iter().skip(1).map(OsString::as_os_str));
    let mut unread: Vec<String> = variables
        .iter()
        .filter(|(_, name)| env(name).is_none_or(|v| v.trim().is_empty()))
        .map(|(id, _)| id.clone())
        .collect();
    match without_env(command.clone(), &all).try_get_matches_from(arguments.clone()) {
        // The command line wins, also over a variable that says the same in another way.
        Ok(matches) => {
            asked = self::asked(command, named(&matches).into_iter());
            unread.extend(outdone(&asked, &matches));
        }
        // What the command line lacks may be in the environment.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {}
        // Help comes before any value is read, so that a wrong one does not keep it away.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Err(with_env_names(command.clone()).try_get_matches_from(arguments).err().unwrap_or(error));
        }
        Err(error) => return Err(error),
    }

    loop {
        match without_env(command.clone(), &unread).try_get_matches_from(arguments.clone()) {
            Ok(matches) => return Ok(matches),
            Err(error) => {
                let Some(id) = culprit(&error, &asked, &unread) else { return Err(error) };
                problems.add(&variables[&id], reason(&error));
                unread.push(id);
            }
        }
    }
}

/// Argument id → environment variable, over all subcommands.
fn variables(command: &Command) -> HashMap<String, String> {
    let own = command.get_arguments().filter_map(|argument| {
        Some((argument.get_id().to_string(), argument.get_env()?.to_string_lossy().into_owned()))
    });
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Help names the variables and shows no value of theirs.
fn with_env_names(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(with_env_names)
}

fn without_env(command: Command, ids: &[String]) -> Command {
    let here: Vec<String> =
        command.get_arguments().map(|a| a.get_id().to_string()).filter(|id| ids.contains(id)).collect();
    let mut command = command;
    for id in here {
        command = command.mut_arg(id, |argument| argument.env(Resettable::Reset));
    }
    command.mut_subcommands(|sub| without_env(sub, ids))
}

/// The command and those of its subcommands that these words name, from the outermost on.
fn asked<'a, 'w>(command: &'a Command, words: impl Iterator<Item = &'w OsStr>) -> Vec<&'a Command> {
    let mut asked = vec![command];
    for word in words {
        asked.extend(asked.last().and_then(|command| command.find_subcommand(word)));
    }
    asked
}

/// The subcommands that were given.
fn named(matches: &ArgMatches) -> Vec<&OsStr> {
    let mut named = Vec::new();
    let mut matches = matches;
    while let Some((name, inner)) = matches.subcommand() {
        named.push(OsStr::new(name));
        matches = inner;
    }
    named
}

/// Arguments that exclude one that the command line gives.
fn outdone(asked: &[&Command], matches: &ArgMatches) -> Vec<String> {
    let mut leaf = matches;
    while let Some((_, inner)) = leaf.subcommand() {
        leaf = inner;
    }
    let groups = asked.iter().flat_map(|command| command.get_groups()).filter(|group| !(*group).clone().is_multiple());
    let members = groups.map(|group| group.get_args().map(ToString::to_string).collect::<Vec<_>>());
    let is_given = |id: &String| leaf.ids().any(|given| given.as_str() == id) && leaf.value_source(id).is_some();
    members
        .filter(|members| members.iter().any(is_given))
        .flat_map(|members| members.into_iter().filter(|id| !is_given(id)).collect::<Vec<_>>())
        .collect()
}

/// The argument whose value from the environment clap complains of.
fn culprit(error: &clap::Error, asked: &[&Command], unread: &[String]) -> Option<String> {
    let shown = error.get(ContextKind::InvalidArg)?.to_string();
    let shown = shown.split([' ', '=', '[']).next()?;
    let is_shown = |argument: &&clap::Arg| {
        argument.get_env().is_some() && argument.get_long().is_some_and(|long| shown == format!("--{long}"))
    };
    let arguments = asked.iter().rev().flat_map(|command| command.get_arguments()).filter(is_shown);
    arguments.map(|argument| argument.get_id().to_string()).find(|id| !unread.contains(id))
}

fn reason(error: &clap::Error) -> String {
    let value =
        error.get(ContextKind::InvalidValue).map(|value| format!("{:?} ", value.to_string())).unwrap_or_default();
    let valid = error.get(ContextKind::ValidValue).map(|valid| format!("; one of: {valid}")).unwrap_or_default();
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{value}is not valid{source}{valid}")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        Command::new("probe")
            .arg(Arg::new("size").long("size").env("PROBE_SIZE").value_parser(clap::value_parser!(u16)))
            .arg(Arg::new("mode").long("mode").env("PROBE_MODE").value_parser(["fast", "safe"]))
    }

    fn secrets(env: &[(&str, &str)]) -> (Secrets, Problems) {
        let specs = [SecretSpec { name: "KEY", help: "", required: true }];
        let mut problems = Problems::default();
        let look_up = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        (Secrets::read(&specs, look_up, &mut problems), problems)
    }

    #[test]
    fn a_wrong_command_line_is_told_by_clap() {
        let mut problems = Problems::default();
        let error = parse(&command(), ["probe".into(), "--size=huge".into()], |_| None, &mut problems).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
        assert!(problems.is_empty());
    }

    #[test]
    fn a_missing_secret_names_both_ways_to_give_it() {
        let (_, problems) = secrets(&[]);
        assert_eq!(problems.lines(), ["KEY: missing; set it, or KEY_FILE to a file that holds it"]);
    }

    #[test]
    fn a_secret_given_twice_is_refused_without_its_value() {
        let (_, problems) = secrets(&[("KEY", "s3cret"), ("KEY_FILE", "/nowhere")]);
        assert!(problems.to_string().contains("KEY_FILE"));
        assert!(!problems.to_string().contains("s3cret"));
    }

    #[test]
    fn a_secret_file_is_read_and_trimmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let (secrets, problems) = secrets(&[("KEY_FILE", file.path().to_str().unwrap())]);
        assert!(problems.is_empty());
        assert_eq!(secrets.get("KEY").unwrap().expose(), "s3cret");
    }
}
