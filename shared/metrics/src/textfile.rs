//! Metrics in a file, for the textfile collector of node-exporter.

use std::{
    collections::HashSet,
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{Group, Snapshot, SnapshotError, catalogue};

/// Why a file of metrics was not written.
#[derive(Debug, thiserror::Error)]
pub enum TextfileError {
    /// The collector reads no other files.
    #[error("{0}: the name must end in .prom, or node-exporter does not read it")]
    Name(PathBuf),
    /// The metrics cannot be told.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The file cannot be read or written.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Writes `snapshot` to `path`, each series with the labels of `group`. Readers see the old file or the new one, whole.
///
/// As with a push, metrics of the old file that `snapshot` does not hold stay: the last success outlives a failed run.
/// Each job and shard needs a file of its own. Blocks while it reads and writes a few kilobytes.
///
/// # Errors
/// The name does not end in `.prom`, the metrics cannot be told, or the file cannot be written.
pub fn write_textfile(path: &Path, group: &Group, snapshot: &Snapshot) -> Result<(), TextfileError> {
    if path.extension().is_none_or(|extension| extension != "prom") {
        return Err(TextfileError::Name(path.to_owned()));
    }
    let text = snapshot.encode_with(&group.labels())?;
    replace(path, &text).map_err(|cause| TextfileError::Io { path: path.to_owned(), cause })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => String::new(),
        Err(error) => return Err(error),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Not *.prom, so that the collector does not read it; open to the collector's user once it has its name.
    let mut file = tempfile::Builder::new()
        .prefix(".rollcall-")
        .suffix(".tmp")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(merge(&old, text).as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// `new`, and the metrics of ours that only `old` has.
fn merge(old: &str, new: &str) -> String {
    let told: HashSet<&str> = new.lines().filter_map(metric).collect();
    let kept: HashSet<&str> =
        catalogue().iter().map(|metric| metric.name).filter(|name| !told.contains(name)).collect();
    let mut text = new.to_owned();
    for line in old.lines().filter(|line| metric(line).is_some_and(|name| kept.contains(name))) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The metric that a line of the text format is about.
fn metric(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
    line.split([' ', '{']).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner;

    fn group() -> Group {
        Group { job: "migrate", namespace: Some("production".to_owned()), shard: Some(2) }
    }

    fn gauge(gauge: &'static crate::Gauge, value: f64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.gauge(gauge, &[], value);
        snapshot
    }

    #[test]
    fn a_file_holds_the_metrics_with_the_labels_of_the_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("migrate.prom");
        write_textfile(&path, &group(), &gauge(&runner::EXIT_CODE, 1.0)).unwrap();
        let expected = "# HELP rollcall_job_last_exit_code Exit code of the last run.\n\
                        # TYPE rollcall_job_last_exit_code gauge\n\
                        rollcall_job_last_exit_code{job=\"migrate\",namespace=\"production\",shard=\"2\"} 1\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o444, 0o444, "the collector can read it");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left in the folder");
    }

    #[test]
    fn the_last_success_outlives_a_failed_run_and_nothing_appears_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("migrate.prom");
        fs::write(&path, "# TYPE somebody_elses gauge\nsomebody_elses 1\n").unwrap();
        let mut success = gauge(&runner::LAST_SUCCESS, 100.0);
        success.gauge(&runner::EXIT_CODE, &[], 0.0);
        write_textfile(&path, &group(), &success).unwrap();
        for _ in 0..2 {
            write_textfile(&path, &group(), &gauge(&runner::EXIT_CODE, 1.0)).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "{job=\"migrate\",namespace=\"production\",shard=\"2\"}";
        let expected = [
            format!("rollcall_job_last_exit_code{labels} 1"),
            format!("rollcall_job_last_success_timestamp_seconds{labels} 100"),
        ];
        assert_eq!(samples, expected);
        assert_eq!(text.matches("# TYPE rollcall_job_last_success_timestamp_seconds gauge\n").count(), 1);
    }

    #[test]
    fn a_reader_never_sees_half_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("migrate.prom");
        let full = Snapshot::of(&crate::counters("character-verifier"));
        write_textfile(&path, &group(), &full).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..200).for_each(|_| write_textfile(&path, &group(), &full).unwrap()));
            while !writer.is_finished() {
                assert_eq!(fs::read_to_string(&path).unwrap(), whole);
            }
        });
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder.prom");
        fs::create_dir_all(path.join("full")).unwrap();
        let error = write_textfile(&path, &group(), &gauge(&runner::EXIT_CODE, 1.0)).unwrap_err().to_string();
        assert!(error.contains("folder.prom"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_node_exporter_does_not_read_is_refused() {
        let error = write_textfile(Path::new("/tmp/migrate.txt"), &group(), &Snapshot::default()).unwrap_err();
        assert!(matches!(error, TextfileError::Name(_)), "{error}");
    }
}
