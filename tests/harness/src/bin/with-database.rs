//! Runs a command with `DATABASE_URL` of a private migrated database: `with-database COMMAND …`.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        return ExitCode::from(64);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let db = runtime.block_on(harness::TestDb::new());
    let status = Command::new(&program).args(words).env("DATABASE_URL", db.url()).status();
    let status = status.unwrap_or_else(|error| panic!("{}: {error}", program.to_string_lossy()));
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
