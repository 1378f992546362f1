//! Shell text, taken apart into simple commands: what stands between pipes, semicolons and line ends, and what stands
//! inside `$( … )`.

/// The commands of `text`, each as its words without quotes.
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut reader = Reader { letters: text.replace("\\\n", " ").chars().collect(), at: 0, commands: Vec::new() };
    reader.list(None);
    reader.commands
}

struct Reader {
    letters: Vec<char>,
    at: usize,
    commands: Vec<Vec<String>>,
}

impl Reader {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.get(self.at).copied();
        self.at += 1;
        letter
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    /// Reads commands up to `end`, or to the end of the text.
    fn list(&mut self, end: Option<char>) {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        while let Some(letter) = self.next().filter(|letter| Some(*letter) != end) {
            match letter {
                ' ' | '\t' => words.extend(word.take()),
                '\n' | ';' | '|' | '&' => {
                    words.extend(word.take());
                    self.commands.extend(Some(std::mem::take(&mut words)).filter(|words| !words.is_empty()));
                }
                '#' if word.is_none() => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.at += 1;
                    }
                }
                '\'' => {
                    let word = word.get_or_insert_default();
                    while let Some(inner) = self.next().filter(|inner| *inner != '\'') {
                        word.push(inner);
                    }
                }
                '"' => {
                    let mut text = word.take().unwrap_or_default();
                    while let Some(inner) = self.next().filter(|inner| *inner != '"') {
                        match inner {
                            '\\' => text.extend(self.next()),
                            '$' if self.peek() == Some('(') => self.substitution(&mut text),
                            plain => text.push(plain),
                        }
                    }
                    word = Some(text);
                }
                '$' if self.peek() == Some('(') => {
                    let mut text = word.take().unwrap_or_default();
                    self.substitution(&mut text);
                    word = Some(text);
                }
                '\\' => word.get_or_insert_default().extend(self.next()),
                plain => word.get_or_insert_default().push(plain),
            }
        }
        words.extend(word);
        self.commands.extend(Some(words).filter(|words| !words.is_empty()));
    }

    /// The commands inside are commands of their own; what they print is not known.
    fn substitution(&mut self, word: &mut String) {
        self.at += 1;
        self.list(Some(')'));
        word.push_str("$()");
    }
}

#[test]
fn commands_are_found_between_pipes_and_inside_substitutions() {
    let found = commands(
        "export A=$(kubectl get x -o 'j;p' | base64 -d) # why\na -p '{\"b\": \"c d\"}' \\\n  | b \"$(c \\\"d\\\")\"\n",
    );
    let expected: [&[&str]; 6] = [
        &["kubectl", "get", "x", "-o", "j;p"],
        &["base64", "-d"],
        &["export", "A=$()"],
        &["a", "-p", "{\"b\": \"c d\"}"],
        &["c", "\"d\""],
        &["b", "$()"],
    ];
    assert_eq!(found, expected);
}
