//! The binaries, as their command lines describe them.

use std::collections::{BTreeMap, BTreeSet};

use clap::Command;

/// A binary.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    command: Command,
}

/// A setting that has a variable.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// What clap puts where nothing is given.
    pub(crate) default: Option<String>,
    /// Where the default depends on something, the help says on what.
    pub(crate) tells_default: bool,
}

/// All binaries that run in a cluster. A new job is entered here.
pub(crate) fn programs() -> Vec<Program> {
    vec![
        Program { name: "character-verifier", command: job::command::<character_verifier::CharacterVerifier>() },
        Program { name: "outbox-drain", command: job::command::<outbox_drain::OutboxDrain>() },
        Program { name: migrate::NAME, command: migrate::command() },
    ]
}

/// A binary by name.
pub(crate) fn program(name: &str) -> Option<Program> {
    programs().into_iter().find(|program| program.name == name)
}

impl Program {
    /// Settings by variable, those of all subcommands too.
    pub(crate) fn settings(&self) -> BTreeMap<String, Setting> {
        let mut all = BTreeMap::new();
        let mut commands = vec![&self.command];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let Some(variable) = argument.get_env() else { continue };
                let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let setting = Setting { default, tells_default: help.contains("[default: ") };
                all.insert(variable.to_string_lossy().into_owned(), setting);
            }
            commands.extend(command.get_subcommands());
        }
        all
    }

    /// Secrets, as `--help` lists them: `  NAME  what it is`.
    pub(crate) fn secrets(&self) -> BTreeSet<String> {
        let help = self.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let names = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
        let is_name =
            |name: &&str| name.chars().all(|letter| letter.is_ascii_uppercase() || matches!(letter, '_' | '0'..='9'));
        names.filter(is_name).map(str::to_owned).collect()
    }

    /// Secrets without which it does not start.
    pub(crate) fn required(&self) -> BTreeSet<String> {
        let help = self.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let is_required = |name: &String| {
            help.lines().any(|line| line.trim_start().starts_with(&format!("{name} ")) && line.ends_with("(required)"))
        };
        self.secrets().into_iter().filter(is_required).collect()
    }

    /// Whether it reads the variable: a setting, a secret, a secret's file, or the filter of the logs.
    pub(crate) fn reads(&self, variable: &str) -> bool {
        let secrets = self.secrets();
        self.settings().contains_key(variable)
            || secrets.contains(variable)
            || variable.strip_suffix("_FILE").is_some_and(|name| secrets.contains(name))
            || variable == "RUST_LOG"
    }

    /// The arguments that give this variable that value: the flag, after the subcommand whose own it is.
    pub(crate) fn arguments(&self, variable: &str, value: &str) -> Vec<String> {
        let is_its = |command: &Command| {
            command.get_arguments().any(|argument| argument.get_env().is_some_and(|name| name == variable))
        };
        let owner = if is_its(&self.command) { None } else { self.command.get_subcommands().find(|one| is_its(one)) };
        let flags = owner.unwrap_or(&self.command).get_arguments();
        let flag = flags.filter(|flag| flag.get_env().is_some_and(|name| name == variable)).find_map(|f| f.get_long());
        let flag = flag.map_or_else(|| variable.to_ascii_lowercase().replace('_', "-"), str::to_owned);
        owner.map(|command| command.get_name().to_owned()).into_iter().chain([format!("--{flag}={value}")]).collect()
    }

    /// Whether it takes these arguments.
    pub(crate) fn takes(&self, arguments: &[String]) -> Result<(), String> {
        let line = std::iter::once(self.name.to_owned()).chain(arguments.iter().cloned());
        self.command.clone().try_get_matches_from(line).map(drop).map_err(|error| error.to_string())
    }
}
