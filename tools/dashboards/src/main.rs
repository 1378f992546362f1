//! `dashboards FOLDER` writes the Grafana JSON of each description in FOLDER beside it; `dashboards --check FOLDER` only
//! says which is out of date.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--check", folder] => check(Path::new(folder)),
        [folder] if !folder.starts_with('-') => write(Path::new(folder)),
        _ => {
            say("usage: dashboards [--check] FOLDER");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> Result<ExitCode, String> {
    for (path, text) in generated(folder)? {
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(folder: &Path) -> Result<ExitCode, String> {
    let mut code = ExitCode::SUCCESS;
    let generated = generated(folder)?;
    for (path, text) in &generated {
        if fs::read_to_string(path).is_ok_and(|stands| stands == *text) {
            continue;
        }
        say(&format!("{}: not what its description gives; run `dashboards {}`", path.display(), folder.display()));
        code = ExitCode::FAILURE;
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let json = path.extension().is_some_and(|extension| extension == "json");
        if json && !generated.iter().any(|(known, _)| *known == path) {
            say(&format!("{}: has no description", path.display()));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Path and text of each JSON file.
fn generated(folder: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let described = dashboards::read(folder).map_err(|error| error.to_string())?;
    if described.is_empty() {
        return Err(format!("{}: no description (*.yaml) there", folder.display()));
    }
    described
        .into_iter()
        .map(|(path, dashboard)| {
            let text = serde_json::to_string_pretty(&dashboards::grafana(&dashboard)).map_err(|e| e.to_string())?;
            Ok((path.with_extension("json"), text + "\n"))
        })
        .collect()
}

// Nothing can be done when nobody reads it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
