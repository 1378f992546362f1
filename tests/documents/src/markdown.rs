//! What tests need of a Markdown document: blocks of code, code in lines, headings, tables.

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// What stands behind the opening fence.
    pub language: String,
    /// The lines between the fences.
    pub text: String,
}

/// A document, taken apart.
#[derive(Debug, Default)]
pub struct Document {
    /// Fenced blocks.
    pub blocks: Vec<Block>,
    /// Headings of the second level.
    pub headings: Vec<String>,
    /// Code in lines of text. One that is broken over two lines is put together.
    pub spans: Vec<String>,
    /// Rows of tables, without the heads' rulers, each under the heading it stands below.
    pub rows: Vec<(String, Vec<String>)>,
}

/// Takes a document apart.
pub fn document(text: &str) -> Document {
    let mut document = Document::default();
    let mut prose = String::new();
    let mut block: Option<Block> = None;
    for line in text.lines() {
        let bare = line.trim();
        if let Some(language) = bare.strip_prefix("```") {
            match block.take() {
                Some(full) => document.blocks.push(full),
                None => block = Some(Block { language: language.to_owned(), text: String::new() }),
            }
            continue;
        }
        if let Some(block) = &mut block {
            block.text.push_str(line);
            block.text.push('\n');
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            document.headings.push(heading.to_owned());
        }
        if let Some(row) = bare.strip_prefix('|').and_then(|row| row.strip_suffix('|')) {
            let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
            if !cells.iter().all(|cell| cell.chars().all(|letter| letter == '-')) || cells.iter().all(String::is_empty)
            {
                document.rows.push((document.headings.last().cloned().unwrap_or_default(), cells));
            }
        }
        prose.push_str(line);
        // A paragraph ends here; a span does not reach over it.
        prose.push(if bare.is_empty() { '\u{0}' } else { ' ' });
    }
    for paragraph in prose.split('\u{0}') {
        document.spans.extend(paragraph.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    document
}

/// The code in a cell or a line.
pub fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn blocks_spans_headings_and_rows_are_found() {
    let found =
        document("# T\n\n## One\nSay `a\nb` now.\n\n| x | y |\n|---|---|\n| `1` | |\n\n   ```sh\n   ls `x`\n   ```\n");
    assert_eq!(found.headings, ["One"]);
    assert_eq!(found.spans, ["a b", "1"]);
    assert_eq!(
        found.rows,
        [
            ("One".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
            ("One".to_owned(), vec!["`1`".to_owned(), String::new()])
        ]
    );
    assert_eq!((found.blocks[0].language.as_str(), found.blocks[0].text.as_str()), ("sh", "   ls `x`\n"));
}
