//! What is code in a page of Markdown: blocks between fences, and words between backquotes.

use anyhow::ensure;

/// A block between fences.
pub(crate) struct Block {
    /// The line of the page that it begins on.
    pub(crate) line: usize,
    /// What stands behind the first fence.
    pub(crate) language: String,
    pub(crate) text: String,
}

/// One page.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
    /// Words between backquotes outside of blocks, with the line that their paragraph begins on.
    pub(crate) words: Vec<(usize, String)>,
    /// Lines where a block begins that is indented and has no fences.
    pub(crate) indented: Vec<usize>,
}

impl Page {
    /// Fails where a fence or a backquote has no other.
    pub(crate) fn read(name: &str, text: &str) -> anyhow::Result<Self> {
        let mut page = Self { name: name.to_owned(), blocks: Vec::new(), words: Vec::new(), indented: Vec::new() };
        let mut open: Option<Block> = None;
        let mut paragraph = (1, String::new());
        let mut blank_before = true;
        for (line, text) in (1..).zip(text.lines()) {
            let fence = text.strip_prefix("```");
            match (&mut open, fence) {
                (Some(block), None) => {
                    block.text.push_str(text);
                    block.text.push('\n');
                }
                (Some(_), Some(_)) => page.blocks.extend(open.take()),
                (None, Some(language)) => {
                    page.end(&mut paragraph)?;
                    open = Some(Block { line, language: language.to_owned(), text: String::new() });
                }
                (None, None) => {
                    if text.starts_with("    ") && blank_before {
                        page.indented.push(line);
                    }
                    // A row of a table is a paragraph of its own.
                    if text.is_empty() || text.starts_with('|') {
                        page.end(&mut paragraph)?;
                    }
                    if paragraph.1.is_empty() {
                        paragraph.0 = line;
                    }
                    paragraph.1.push_str(text);
                    paragraph.1.push(' ');
                }
            }
            blank_before = text.is_empty();
        }
        page.end(&mut paragraph)?;
        ensure!(open.is_none(), "{name}: a block has no end");
        Ok(page)
    }

    fn end(&mut self, paragraph: &mut (usize, String)) -> anyhow::Result<()> {
        let (line, text) = std::mem::take(paragraph);
        let parts: Vec<&str> = text.split('`').collect();
        ensure!(parts.len() % 2 == 1, "{}:{line}: a backquote has no other", self.name);
        let is_row = text.starts_with('|');
        for part in parts.into_iter().skip(1).step_by(2) {
            self.words.push((line, if is_row { part.replace("\\|", "|") } else { part.to_owned() }));
        }
        Ok(())
    }
}

#[test]
fn code_is_between_fences_and_backquotes() -> anyhow::Result<()> {
    let text = "a `b c\nd` e\n```sh\nf `g\n\n    h\n```\n\n| `i \\| j` | k |\n| `l` |\n\n    m\n    n\n";
    let page = Page::read("page", text)?;
    let blocks: Vec<_> = page.blocks.iter().map(|block| (block.line, &*block.language, &*block.text)).collect();
    assert_eq!(blocks, [(3, "sh", "f `g\n\n    h\n")]);
    let words: Vec<_> = page.words.iter().map(|(line, word)| (*line, &**word)).collect();
    assert_eq!(words, [(1, "b c d"), (9, "i | j"), (10, "l")]);
    assert_eq!(page.indented, [12]);
    assert!(Page::read("page", "a `b").is_err() && Page::read("page", "```\na").is_err());
    Ok(())
}
