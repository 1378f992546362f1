//! Results on standard output. Logs go to standard error, so that a tool can read what is here.

use std::io::{ErrorKind, IsTerminal, Write, stdout};

/// Writes `text` and a line end. A reader that has gone away (`… | head`) is fine, and so is a closed output: whoever
/// closed it does not want to know.
pub fn line(text: &str) {
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        tracing::debug!(%error, "standard output cannot be written");
    }
}

/// Whether somebody looks at standard output.
pub fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Rows under headings, in columns as wide as their widest cell. The last column is not padded.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let render = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![render(headings.to_vec())];
    lines.extend(rows.iter().map(|row| render(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["1".to_owned(), "dönе".to_owned(), "x".to_owned()],
            vec!["1000".to_owned(), "a".to_owned(), String::new()],
        ];
        assert_eq!(table(&["n", "how", "note"], &rows), "n     how   note\n1     dönе  x\n1000  a");
    }
}
