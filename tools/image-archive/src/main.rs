//! What goes into Rollcall's images, and the images themselves where no container engine is at hand.
//!
//! `root` writes the folder that becomes an image: the binary, the certificate authorities, the licences and a bill of
//! materials. The Containerfile copies that folder, and `pack` makes an archive of it, so that both ways give equal
//! contents. `list` shows what is in an archive, whoever made it. The same input gives the same bytes: no time of day,
//! no order of a folder, no owner of this machine gets in.

use std::{error::Error, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser};

mod archive;
mod authorities;
mod bill;
mod cargo;
mod licences;
mod list;
mod root;

/// Whatever went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Makes the contents of Rollcall's images, and archives of them
#[derive(Parser)]
#[command(version)]
enum Line {
    /// Write the folder that becomes an image
    Root(Root),
    /// Make a folder an image archive that docker, podman, kind and containerd load; prints its digest
    Pack(Pack),
    /// Show what is in an archive: settings, then mode, SHA-256 and path of each file
    List {
        /// The archive
        archive: PathBuf,
    },
}

/// What `root` needs.
#[derive(Args)]
struct Root {
    /// Name of the package and its binary
    #[arg(long)]
    package: String,
    /// The binary
    #[arg(long)]
    binary: PathBuf,
    /// For which target it was built
    #[arg(long)]
    target: String,
    /// Version of the C library that is linked in
    #[arg(long)]
    glibc: String,
    /// The folder; what was there is replaced
    #[arg(long)]
    out: PathBuf,
}

/// What `pack` needs.
#[derive(Args)]
struct Pack {
    /// The folder that `root` wrote
    #[arg(long)]
    root: PathBuf,
    /// Name and tag, such as localhost/rollcall/migrate:0.1.0
    #[arg(long)]
    name: String,
    /// Architecture, as images name it: amd64, arm64
    #[arg(long)]
    architecture: String,
    /// The program that is started
    #[arg(long)]
    entrypoint: String,
    /// Numeric user and group
    #[arg(long)]
    user: String,
    /// A label, NAME=VALUE; may be repeated
    #[arg(long = "label")]
    labels: Vec<String>,
    /// Time stamp of everything, in seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH")]
    epoch: u64,
    /// The archive
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Line::parse()) {
        Ok(text) if std::io::stdout().write_all(text.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to do when standard error is gone as well.
            let _ = writeln!(std::io::stderr(), "image-archive: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: &Line) -> Result<String> {
    match line {
        Line::Root(root) => root::write(root).map(|()| String::new()),
        Line::Pack(pack) => archive::write(pack).map(|digest| format!("{digest}\n")),
        Line::List { archive } => list::text(archive),
    }
}
