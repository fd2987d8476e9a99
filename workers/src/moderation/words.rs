//! Lists of words: what is refused without asking anybody, one list for each language, all of them for every text.
//!
//! A text is brought into a plain form once: small letters, nothing invisible, words apart by one space, sentences by a line.
//! Then each word is looked up, and an expression of several is followed from its first. Words are found whole; a list says by
//! a `*` where a stem is meant. Deliberately absent: spellings that are meant to deceive, the sense of what is said, and
//! writing that does not part its words. A vendor is asked about those.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    path::Path,
};

use anyhow::{Context, ensure};
use async_trait::async_trait;

use super::{Case, Moderator, Unavailable, Verdict};

/// Name and text of every list, inside the binary.
const BUILT_IN: [(&str, &str); 2] = [
    ("en.txt", include_str!("../../../moderation/en.txt")),
    ("ru.txt", include_str!("../../../moderation/ru.txt")),
];

/// Category of expressions that stand before the first `[name]` of their list.
const UNNAMED: &str = "listed words";

/// Shortest stem: fewer letters begin words of every kind.
const STEM_CHARS_MIN: usize = 3;

/// What stands between words in the plain form, and between sentences.
const GAP: char = ' ';
const SENTENCE: char = '\n';

/// Every list, ready to be looked up.
#[derive(Default)]
pub struct Words {
    /// Expressions whose first word is whole, by that word.
    whole: HashMap<String, Vec<Expression>>,
    /// Expressions whose first word is a stem, by that stem.
    stems: HashMap<String, Vec<Expression>>,
    /// How many bytes those stems have.
    stem_lengths: BTreeSet<usize>,
    /// Expressions in all.
    count: usize,
}

/// Words that mean something only together.
struct Expression {
    words: Vec<Word>,
    category: String,
}

/// One word in the plain form.
struct Word {
    text: String,
    is_stem: bool,
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Words {
    /// The lists inside the binary and those in `dir`, its files that end with `.txt`. A file there takes the place of the list of
    /// its name; others come beside them.
    ///
    /// # Errors
    /// When the folder or a file of it cannot be read, or a line is no expression; the message says which and why.
    pub fn load(dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut lists: BTreeMap<String, String> =
            BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        if let Some(dir) = dir {
            let found = lists_in(dir);
            lists.extend(found.with_context(|| {
                format!("read the lists in {}, which KILN_MODERATION_WORDS names", dir.display())
            })?);
        }
        let words = Self::read(lists.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
        let names: Vec<_> = lists.keys().collect();
        tracing::info!(lists = ?names, expressions = words.count, "lists of words are read");
        Ok(words)
    }

    /// Reads lists of these names and texts.
    fn read<'a>(lists: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<Self> {
        let mut words = Self::default();
        for (name, text) in lists {
            let mut category = UNNAMED;
            // Some editors begin a file with a mark of its encoding.
            for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                let line = line.split('#').next().unwrap_or_default().trim();
                let place = || format!("read line {} of {name}", number + 1);
                if let Some(begun) = line.strip_prefix('[') {
                    let named = begun.strip_suffix(']').map(str::trim).filter(|named| !named.is_empty());
                    category = named.context("a category is a name in brackets").with_context(place)?;
                } else if !line.is_empty() {
                    words.add(Expression::read(line, category).with_context(place)?);
                }
            }
        }
        Ok(words)
    }

    fn add(&mut self, expression: Expression) {
        let Some(first) = expression.words.first() else { return };
        let listed = if first.is_stem {
            self.stem_lengths.insert(first.text.len());
            &mut self.stems
        } else {
            &mut self.whole
        };
        listed.entry(first.text.clone()).or_default().push(expression);
        self.count += 1;
    }

    /// The category of the first expression that a text says.
    fn find(&self, text: &str) -> Option<&str> {
        plain(text).split(SENTENCE).find_map(|sentence| self.find_in(sentence))
    }

    fn find_in(&self, sentence: &str) -> Option<&str> {
        let mut begin = 0;
        for word in sentence.split(GAP) {
            let rest = &sentence[begin..];
            if let Some(said) = self.beginning_with(word).find(|expression| expression.is_said_by(rest)) {
                return Some(&said.category);
            }
            begin += word.len() + GAP.len_utf8();
        }
        None
    }

    fn beginning_with<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a Expression> {
        let stems = self.stem_lengths.iter().filter_map(move |length| self.stems.get(word.get(..*length)?));
        self.whole.get(word).into_iter().chain(stems).flatten()
    }
}

#[async_trait]
impl Moderator for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    async fn judge(&self, _case: &Case<'_>, texts: &[&str]) -> Result<Verdict, Unavailable> {
        let found = texts.iter().find_map(|text| self.find(text));
        Ok(found.map_or(Verdict::Clean, Verdict::flagged))
    }
}

impl Expression {
    fn read(line: &str, category: &str) -> anyhow::Result<Self> {
        let mut words = Vec::new();
        for part in line.split_whitespace() {
            let (text, is_stem) = part.strip_suffix('*').map_or((part, false), |stem| (stem, true));
            ensure!(!text.contains('*'), "a * stands at the end of a word alone");
            let text = plain(text);
            ensure!(!text.contains(SENTENCE), "an expression does not go on behind the end of a sentence");
            words.extend(text.split(GAP).filter(|word| !word.is_empty()).map(Word::whole));
            if is_stem {
                let letters = text.chars().rev().take_while(|c| *c != GAP).count();
                ensure!(letters >= STEM_CHARS_MIN, "a * needs at least {STEM_CHARS_MIN} letters before it");
                if let Some(last) = words.last_mut() {
                    last.is_stem = true;
                }
            }
        }
        ensure!(!words.is_empty(), "there is no word in it");
        Ok(Self { words, category: category.to_owned() })
    }

    /// Whether a sentence begins with it.
    fn is_said_by(&self, sentence: &str) -> bool {
        let mut said = sentence.split(GAP);
        self.words.iter().all(|word| said.next().is_some_and(|next| word.is(next)))
    }
}

impl Word {
    fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), is_stem: false }
    }

    fn is(&self, said: &str) -> bool {
        if self.is_stem { said.starts_with(&self.text) } else { said == self.text }
    }
}

/// Name and text of every list in a folder.
fn lists_in(dir: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut lists = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
            lists.push((name, text));
        }
    }
    Ok(lists)
}

/// The plain form of a text: its words in small letters, a space between two, a line's end between sentences.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut gap = None;
    for c in text.chars().filter(|c| !is_unseen(*c)) {
        if c.is_alphanumeric() {
            // What stands before the first word parts nothing.
            if let Some(gap) = gap.take().filter(|_| !plain.is_empty()) {
                plain.push(gap);
            }
            plain.extend(c.to_lowercase().filter(|c| !is_unseen(*c)).map(alike));
        } else if matches!(c, '.' | '!' | '?' | '…' | '。') {
            gap = Some(SENTENCE);
        } else {
            gap = gap.or(Some(GAP));
        }
    }
    plain
}

/// What is put into words without being seen, or is a mark over the letter before it: soft hyphens, joiners, accents.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// One letter for those that are written for each other. `й` is among them because Unicode also spells it as `и` and a mark.
fn alike(c: char) -> char {
    match c {
        'ё' => 'е',
        'й' => 'и',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
        # fruit
        quince
        Rotten apple*   # and apples
        [spiky things]
        ёжик в колючках
        колюч* кактус*
        half-baked cake
    ";

    fn check(text: &str, expected: Option<&str>) {
        let words = Words::read([("list.txt", LIST)]).unwrap();
        assert_eq!(words.find(text), expected, "{text:?}");
    }

    #[test]
    fn words_are_found_whole_and_in_any_case() {
        for said in [
            "quince",
            "a QUINCE, please",
            "(Quince)",
            "quince's",
            "the quince-tree",
            "«quince»",
            "no. Quince",
        ] {
            check(said, Some(UNNAMED));
        }
        for other in ["", " … ", "quinces", "aquince", "quin ce", "quince1", "quincé"] {
            check(other, None);
        }
        // A letter with a mark over it is the letter; one that has its own place in Unicode is another.
        check("quince\u{301}", Some(UNNAMED));
    }

    #[test]
    fn what_cannot_be_seen_hides_nothing() {
        check("qu\u{200b}in\u{ad}ce", Some(UNNAMED));
        check("q\u{336}u\u{336}i\u{336}n\u{336}c\u{336}e\u{336}", Some(UNNAMED));
        check("\u{feff}quince", Some(UNNAMED));
    }

    #[test]
    fn an_expression_is_its_words_in_order_within_a_sentence() {
        for said in
            ["rotten apple", "ROTTEN  APPLES", "a very rotten,\napple-pie", "rotten_apple", "half baked CAKE"]
        {
            assert!(Words::read([("list.txt", LIST)]).unwrap().find(said).is_some(), "{said}");
        }
        for other in [
            "rotten",
            "apple",
            "apple rotten",
            "rotten green apple",
            "It is rotten. Apples are not.",
            "rotten! apple",
            "half cake",
        ] {
            check(other, None);
        }
        check("rotten rotten apple", Some(UNNAMED));
    }

    #[test]
    fn a_stem_begins_a_word_and_is_in_no_other() {
        check("колючий кактус", Some("spiky things"));
        check("КОЛЮЧИХ КАКТУСОВ", Some("spiky things"));
        check("неколючий кактус", None);
        check("колюч кактусенок", Some("spiky things"));
        check("колю кактус", None);
    }

    #[test]
    fn letters_that_are_written_for_each_other_are_one() {
        for said in [
            "ёжик в колючках",
            "Ежик в колючках",
            "ЁЖИК в колючках",
            "е\u{308}жик в колючках",
            "ежик в колючках",
        ] {
            check(said, Some("spiky things"));
        }
        check("колючии\u{306} кактус", Some("spiky things"));
    }

    #[test]
    fn a_list_that_says_nothing_is_refused_by_its_line() {
        for (line, why) in [
            ("*", "a * needs at least 3 letters"),
            ("ab*", "a * needs at least 3 letters"),
            ("apple *", "a * needs at least 3 letters"),
            ("pre-te*", "a * needs at least 3 letters"),
            ("a*ple", "a * stands at the end"),
            ("…", "there is no word"),
            ("e.g. this", "behind the end of a sentence"),
            ("[open", "a category is a name"),
            ("[ ]", "a category is a name"),
        ] {
            let list = format!("quince\n{line}\n");
            let error = Words::read([("odd.txt", list.as_str())]).expect_err(line);
            let error = format!("{error:#}");
            assert!(error.starts_with("read line 2 of odd.txt: ") && error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn the_lists_inside_refuse_what_is_never_made_and_nothing_else() {
        let words = Words::load(None).unwrap();
        for text in [
            "Child pornography, photo",
            "a naked child on a beach",
            "pre-teen porn",
            "anime, LOLICON --ar 16:9",
            "сцена детского порно",
            "Голый ребенок на пляже",
            "голый ребёнок на пляже",
        ] {
            assert_eq!(words.find(text), Some("sexual/minors"), "{text}");
        }
        for text in [
            "a child plays in the snow",
            "How do I talk with my children about sex?",
            "underage drinking, a poster against it",
            "a sonata in a minor key, naked trees",
            "the naked eye of a child",
            "It is for a child. Porn is blocked there.",
            "голодный ребёнок и голые деревья",
            "детский стиральный порошок",
            "как защитить детей в интернете",
            "лоли поп, леденец на палочке",
        ] {
            assert_eq!(words.find(text), None, "{text}");
        }
    }
}
