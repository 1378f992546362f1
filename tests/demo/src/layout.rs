//! A screen: lines of at most 110 columns. Colours only on a terminal.

use std::io::{self, IsTerminal, Write};

/// Columns of a screen.
const WIDTH: usize = 110;

const BOLD: &str = "\u{1b}[1m";
const CYAN: &str = "\u{1b}[36m";
const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";

/// Lines to be shown.
pub(crate) struct Screen {
    lines: Vec<String>,
    colours: bool,
}

impl Screen {
    /// Begins with a title across the width.
    pub(crate) fn titled(title: &str) -> Self {
        let mut screen = Self { lines: Vec::new(), colours: io::stdout().is_terminal() };
        screen.line("");
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count() + 4));
        let title = screen.painted(BOLD, &format!("── {title} {rule}"));
        screen.lines.push(title);
        screen
    }

    /// One line as it is, cut where it would be too wide.
    pub(crate) fn line(&mut self, text: &str) {
        self.lines.push(cut(text));
    }

    /// A line that stands out, over what follows.
    pub(crate) fn heading(&mut self, text: &str) {
        let heading = self.painted(BOLD, &cut(text));
        self.lines.push(heading);
    }

    /// Prose, wrapped.
    pub(crate) fn text(&mut self, text: &str) {
        self.lines.extend(wrapped(text, ""));
    }

    /// Prose under something else, wrapped and indented.
    pub(crate) fn note(&mut self, text: &str) {
        self.lines.extend(wrapped(text, "  "));
    }

    /// A command as it can be pasted.
    pub(crate) fn command(&mut self, command: &str) {
        let prompt = self.painted(DIM, "$");
        let command = self.painted(CYAN, command);
        self.lines.push(format!("{prompt} {command}"));
    }

    /// What a command wrote.
    pub(crate) fn output(&mut self, output: &str) {
        output.lines().for_each(|line| self.line(line));
    }

    /// Indented rows in columns as wide as their widest cell.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            self.line(&format!("  {}", cells.join("  ").trim_end()));
        }
    }

    /// Writes what it holds and holds nothing then. A reader that has gone away (`make demo | head`) does not matter.
    pub(crate) fn show(&mut self) {
        let mut out = io::stdout().lock();
        let _ =
            out.write_all((std::mem::take(&mut self.lines).join("\n") + "\n").as_bytes()).and_then(|()| out.flush());
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }
}

/// A number as people read it: 5,000.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let long = "word ".repeat(100);
        assert!(wrapped(&long, "  ").iter().all(|line| line.chars().count() <= WIDTH && line.starts_with("  w")));
        assert_eq!(cut(&"é".repeat(WIDTH + 1)).chars().count(), WIDTH);
        assert_eq!(cut(&"é".repeat(WIDTH)), "é".repeat(WIDTH));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
