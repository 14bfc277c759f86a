//! Command lines, as far as pages have them.

use std::iter::{Peekable, once};
use std::str::Chars;

/// The simple commands of a script, in words, without quotes and redirections. What the shell would put in the place of something
/// (`$name`, `{a,b}`) stays as it is.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut reader = Reader { letters: script.chars().peekable(), word: None, is_target: false, words: Vec::new() };
    let mut all = Vec::new();
    while let Some(letter) = reader.letters.next() {
        match letter {
            '\n' | ';' | '|' | '&' => all.push(reader.end()),
            letter => reader.take(letter),
        }
    }
    all.push(reader.end());
    all.retain(|words| !words.is_empty());
    all
}

struct Reader<'a> {
    letters: Peekable<Chars<'a>>,
    /// Begun, and perhaps empty still.
    word: Option<String>,
    /// The word is the file of a redirection.
    is_target: bool,
    words: Vec<String>,
}

impl Reader<'_> {
    fn take(&mut self, letter: char) {
        match letter {
            '\\' => {
                if let Some(next) = self.letters.next().filter(|next| *next != '\n') {
                    self.word().push(next);
                }
            }
            '\'' | '"' => {
                let quoted: String = self.letters.by_ref().take_while(|next| *next != letter).collect();
                self.word().push_str(&quoted);
            }
            '#' if self.word.is_none() => while self.letters.next_if(|next| *next != '\n').is_some() {},
            '>' | '<' => {
                // The number of a stream.
                self.word.take_if(|word| word.bytes().all(|octet| octet.is_ascii_digit()));
                self.finish();
                while self.letters.next_if(|next| ['>', '<', '&', ' '].contains(next)).is_some() {}
                self.is_target = true;
            }
            letter if letter.is_whitespace() => self.finish(),
            letter => self.word().push(letter),
        }
    }

    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn finish(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.is_target)
        {
            self.words.push(word);
        }
    }

    fn end(&mut self) -> Vec<String> {
        self.finish();
        std::mem::take(&mut self.words)
    }
}

/// What a synopsis stands for: `a [b | c] d…` for `a d`, `a b d` and `a c d`, `a b|c` for `a b` and `a c`. Other lines stand for
/// themselves.
pub(crate) fn meant(line: &str) -> Vec<String> {
    if let Some((before, rest)) = line.split_once(" [")
        && let Some((inside, after)) = rest.split_once(']')
    {
        let choices = inside.split(" | ").map(|choice| format!("{before} {choice}{after}"));
        return once(format!("{before}{after}")).chain(choices).flat_map(|line| meant(&line)).collect();
    }
    let choice = line.split(' ').find(|word| word.contains('|') && word.len() > 1);
    match choice {
        Some(word) => word.split('|').flat_map(|one| meant(&line.replacen(word, one, 1))).collect(),
        None => vec![line.replace('…', " ").trim_end().to_owned()],
    }
}

#[test]
fn a_script_is_its_commands() {
    let script = "A=1 b -- 'c d' \"e|f\" # g\nh \\\n  i | j >k 2>&1; l '' >> m n\n\n# o\n";
    let expected: [&[&str]; 4] = [&["A=1", "b", "--", "c d", "e|f"], &["h", "i"], &["j"], &["l", "", "n"]];
    assert_eq!(commands(script), expected);
}

#[test]
fn a_synopsis_is_what_it_stands_for() {
    assert_eq!(meant("q cat ID [-H | -b]"), ["q cat ID", "q cat ID -H", "q cat ID -b"]);
    assert_eq!(meant("q flush [ID…] --all"), ["q flush --all", "q flush ID  --all"]);
    assert_eq!(meant("s add|list A"), ["s add A", "s list A"]);
    assert_eq!(meant("s list | less"), ["s list | less"]);
}
