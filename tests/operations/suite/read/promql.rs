//! What an expression of Prometheus uses: metrics with their matchers, and labels it groups or joins by.
//!
//! Whether it is an expression at all is left to `promtool`; this only looks for names.

use std::collections::BTreeSet;

/// Which metric, and how it is narrowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
}

/// `label="value"`, or with another operator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    pub(crate) value: String,
    pub(crate) is_pattern: bool,
}

/// What an expression uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) uses: Vec<Use>,
    /// Labels of `by`, `on` and the like.
    pub(crate) labels: BTreeSet<String>,
    /// Labels that `label_replace` makes.
    pub(crate) made: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Sign(char),
}

const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 8] = ["and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"];

/// Reads an expression.
pub(crate) fn names(expression: &str) -> Names {
    let tokens = tokens(expression);
    let mut names = Names::default();
    let is = |at: usize, sign: char| tokens.get(at) == Some(&Token::Sign(sign));
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Name(name) = token else { continue };
        if GROUPINGS.contains(&name.as_str()) {
            while is(at, '(') || is(at, ',') || matches!(tokens.get(at), Some(Token::Name(_))) {
                if let Some(Token::Name(label)) = tokens.get(at) {
                    names.labels.insert(label.clone());
                }
                at += 1;
                if is(at, ')') {
                    break;
                }
            }
        } else if name == "label_replace" {
            let texts = own_texts(&tokens[at..]);
            names.made.extend(texts.first().cloned());
            names.labels.extend(texts.get(2).cloned());
        } else if WORDS.contains(&name.as_str()) || is(at, '(') || is_aggregation(&tokens[at..]) {
            // A function, an aggregation or an operator.
        } else {
            let mut matchers = Vec::new();
            if is(at, '{') {
                at += 1;
                while at < tokens.len() && !is(at, '}') {
                    if let (Token::Name(label), Some(Token::Text(value))) =
                        (&tokens[at], tokens[at..].iter().find(|token| matches!(token, Token::Text(_))))
                    {
                        let is_pattern = is(at + 1, '~') || is(at + 2, '~');
                        matchers.push(Matcher { label: label.clone(), value: value.clone(), is_pattern });
                    }
                    at += 1;
                }
            }
            names.uses.push(Use { metric: name.clone(), matchers });
        }
    }
    names
}

/// `sum by (job) (…)`: the grouping stands between the name and the bracket.
fn is_aggregation(rest: &[Token]) -> bool {
    matches!(rest.first(), Some(Token::Name(next)) if next == "by" || next == "without")
}

/// The strings between the brackets that open here, without those of brackets inside.
fn own_texts(tokens: &[Token]) -> Vec<String> {
    let mut depth = 0;
    let mut texts = Vec::new();
    for token in tokens {
        match token {
            Token::Sign('(' | '{') => depth += 1,
            Token::Sign(')' | '}') => depth -= 1,
            Token::Text(text) if depth == 1 => texts.push(text.clone()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    texts
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut letters = expression.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(letter) = letters.next() {
        let mut word = String::from(letter);
        match letter {
            '"' | '\'' => {
                word.clear();
                while let Some(next) = letters.next().filter(|next| *next != letter) {
                    word.push(if next == '\\' { letters.next().unwrap_or('\\') } else { next });
                }
                tokens.push(Token::Text(word));
            }
            '#' => while letters.next().is_some_and(|next| next != '\n') {},
            // A range or a step holds no names.
            '[' => while letters.next().is_some_and(|next| next != ']') {},
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                while let Some(next) = letters.next_if(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | ':'))
                {
                    word.push(next);
                }
                tokens.push(Token::Name(word));
            }
            // A number, with its unit.
            '0'..='9' => while letters.next_if(|next| next.is_ascii_alphanumeric() || *next == '.').is_some() {},
            _ if letter.is_whitespace() => {}
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    tokens
}

#[test]
fn metrics_matchers_and_labels_of_an_expression_are_found() {
    let found = names(
        r#"round(sum by (job, shard) (increase(a_total{code!~"400|404",job="x"}[5m])) / on (job) max_over_time(b[1d:1m])) > 1e3
           unless on () label_replace(c == 1, "to", "$1", "from", "(.+)") # d
           or time() - e{} > bool 5400 offset 5m"#,
    );
    let metrics: Vec<&str> = found.uses.iter().map(|one| one.metric.as_str()).collect();
    assert_eq!(metrics, ["a_total", "b", "c", "e"]);
    let matcher =
        |label: &str, value: &str, is_pattern| Matcher { label: label.into(), value: value.into(), is_pattern };
    assert_eq!(found.uses[0].matchers, [matcher("code", "400|404", true), matcher("job", "x", false)]);
    assert_eq!(found.labels, ["from", "job", "shard"].map(String::from).into());
    assert_eq!(found.made, ["to".to_owned()].into());
}
