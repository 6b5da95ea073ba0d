//! Fixed splits of public data sets, read from text files, plain or compressed with zstd.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tidemill_learn::recommend::{Case, Interactions, ItemIndex, Question, Signal};

use crate::cli::SplitFormat;

/// What a type of event says: a purchase more than a view. Others count as a view.
pub const SIGNALS: [(&str, f32); 3] = [("view", 1.0), ("cart", 2.0), ("buy", 4.0)];

/// What is learnt from and what is asked.
#[derive(Debug)]
pub struct Split {
    /// The training data; its catalogue holds every item of both files.
    pub train: Interactions,
    /// The cases of the test.
    pub cases: Vec<Case>,
    /// What is asked.
    pub question: Question,
    /// The least weight of a signal that is like the test's.
    pub goal: f32,
}

/// Reads a split, and says how it is written.
///
/// # Errors
/// When a file cannot be read, is not text, or a line is not of the format; with the number of the line.
pub fn read(
    format: Option<SplitFormat>,
    train: &Path,
    test: Option<&Path>,
) -> Result<(Split, SplitFormat)> {
    let train_text = text(train)?;
    let test_text = test.map(text).transpose()?;
    let format = format.unwrap_or_else(|| found_out(&train_text, test_text.as_deref()));
    let test_text = match (format, test_text) {
        // the whole sequences are often given as both
        (SplitFormat::Sequence, Some(test_text)) if test_text == train_text => None,
        (SplitFormat::Sequence, test_text) => test_text,
        (_, None) => bail!("name the test's file with --test"),
        (_, test_text) => test_text,
    };
    let test_text = test_text.as_deref();
    let split = match format {
        SplitFormat::Pairs => pairs(&train_text, test_text.unwrap_or_default()),
        SplitFormat::Sequence => sequences(&train_text, test_text),
        SplitFormat::Session => sessions(&train_text, test_text.unwrap_or_default()),
        SplitFormat::Events => events(&train_text, test_text.unwrap_or_default()),
    }?;
    if split.train.is_empty() || split.cases.is_empty() {
        bail!(
            "there is nothing to learn from or nothing to ask in {}: is it written as {format:?}? (--format)",
            train.display()
        );
    }
    Ok((split, format))
}

/// How files are written that do not say it.
fn found_out(train: &str, test: Option<&str>) -> SplitFormat {
    let first = train.lines().next().unwrap_or_default();
    match test {
        _ if first.split(',').count() >= 4 => SplitFormat::Events,
        None => SplitFormat::Sequence,
        Some(test) if test == train => SplitFormat::Sequence,
        Some(test) if test.lines().next().is_some_and(|line| line.contains('\t')) => {
            SplitFormat::Session
        }
        Some(_) => SplitFormat::Pairs,
    }
}

fn text(path: &Path) -> Result<String> {
    let what = || format!("read {}", path.display());
    let bytes = std::fs::read(path).with_context(what)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::Decoder::new(bytes.as_slice()).with_context(what)?;
        decoder.read_to_string(&mut text).with_context(what)?;
    } else {
        text = String::from_utf8(bytes).with_context(what)?;
    }
    Ok(text)
}

/// Numbers for names, in the order in which they were met.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, u32>);

impl<'a> Names<'a> {
    fn number(&mut self, name: &'a str) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(name).or_insert(next)
    }

    fn items(&mut self, words: impl Iterator<Item = &'a str>) -> Vec<ItemIndex> {
        words.map(|word| self.number(word)).collect()
    }
}

fn plain(items: &[ItemIndex]) -> Vec<Signal> {
    items.iter().map(|item| Signal::plain(*item)).collect()
}

fn pairs(train: &str, test: &str) -> Result<Split> {
    let mut names = Names::default();
    let mut data = Interactions::builder();
    let mut numbers = HashMap::new();
    let lines = train.lines().filter(|line| !line.trim().is_empty());
    for (number, line) in lines.enumerate() {
        let mut words = line.split_whitespace();
        let Some(user) = words.next() else { continue };
        data.push(plain(&names.items(words)));
        numbers.insert(user, number);
    }
    let mut asked = Vec::new();
    for line in test.lines() {
        let mut words = line.split_whitespace();
        let Some(user) = words.next() else { continue };
        let targets = names.items(words);
        if !targets.is_empty() {
            asked.push((numbers.get(user), targets));
        }
    }
    let train = data.build(names.0.len());
    let case = |(person, (number, targets)): (usize, (Option<&usize>, Vec<ItemIndex>))| {
        let history = number.map_or_else(Vec::new, |number| train.history(*number).to_vec());
        Case::new(person, history, targets)
    };
    let cases = asked.into_iter().enumerate().map(case).collect();
    Ok(Split {
        train,
        cases,
        question: Question::Others,
        goal: 0.0,
    })
}

/// Without a test of their own, sequences are learnt from but for their last items, which are asked for.
fn sequences(train: &str, test: Option<&str>) -> Result<Split> {
    let mut names = Names::default();
    let mut data = Interactions::builder();
    let mut cases = Vec::new();
    let mut ask = |items: &[ItemIndex]| {
        if let Some((target, before)) = items.split_last() {
            cases.push(Case::new(cases.len(), plain(before), vec![*target]));
        }
    };
    for line in train.lines() {
        let items = names.items(line.split_whitespace().skip(1));
        if test.is_none() {
            ask(&items);
            data.push(plain(&items[..items.len().saturating_sub(1)]));
        } else {
            data.push(plain(&items));
        }
    }
    for line in test.into_iter().flat_map(str::lines) {
        ask(&names.items(line.split_whitespace().skip(1)));
    }
    Ok(Split {
        train: data.build(names.0.len()),
        cases,
        question: Question::Next,
        goal: 0.0,
    })
}

fn sessions(train: &str, test: &str) -> Result<Split> {
    let mut names = Names::default();
    let mut data = Interactions::builder();
    for (line, text) in train.lines().enumerate() {
        let items = names.items(text.split_whitespace());
        data.push(items.into_iter().map(|item| Signal {
            time: line as i64,
            ..Signal::plain(item)
        }));
    }
    let mut cases = Vec::new();
    for (line, text) in test.lines().enumerate() {
        let Some((before, target)) = text.split_once('\t') else {
            bail!(
                "find a tab before the target in line {} of the test",
                line + 1
            );
        };
        let history = plain(&names.items(before.split_whitespace()));
        let target = names.number(target.trim());
        cases.push(Case::new(cases.len(), history, vec![target]));
    }
    Ok(Split {
        train: data.build(names.0.len()),
        cases,
        question: Question::NextInSession,
        goal: 0.0,
    })
}

fn events(train: &str, test: &str) -> Result<Split> {
    let mut names = Names::default();
    let mut users: HashMap<&str, usize> = HashMap::new();
    let mut histories: Vec<Vec<Signal>> = Vec::new();
    for (line, text) in train.lines().enumerate().skip(1) {
        let fields: Vec<&str> = text.split(',').collect();
        let [user, item, kind, time] = fields[..] else {
            bail!("find user,item,type,time in line {}", line + 1);
        };
        let weight = SIGNALS.iter().find(|(name, _)| *name == kind);
        let signal = Signal {
            item: names.number(item),
            weight: weight.map_or(1.0, |(_, weight)| *weight),
            time: time
                .trim()
                .parse()
                .with_context(|| format!("read the time in line {}", line + 1))?,
        };
        let place = *users.entry(user).or_insert(histories.len());
        if place == histories.len() {
            histories.push(Vec::new());
        }
        histories[place].push(signal);
    }
    let histories: Vec<Vec<Signal>> = histories.into_iter().map(strongest).collect();
    let mut cases: HashMap<usize, Case> = HashMap::new();
    for (line, text) in test.lines().enumerate().skip(1) {
        let Some((user, item)) = text.split_once(',') else {
            bail!("find user,item in line {} of the test", line + 1);
        };
        // someone without a history in the training data is asked about as well
        let place = users.get(user).copied().unwrap_or(usize::MAX - line);
        let case = cases.entry(place).or_insert_with(|| {
            let history = histories.get(place).cloned().unwrap_or_default();
            Case::new(place, history, Vec::new())
        });
        case.targets.push(names.number(item.trim()));
    }
    let mut cases: Vec<(usize, Case)> = cases.into_iter().collect();
    cases.sort_by_key(|(place, _)| *place);
    let mut data = Interactions::builder();
    for history in &histories {
        data.push(history.iter().copied());
    }
    Ok(Split {
        train: data.build(names.0.len()),
        cases: cases.into_iter().map(|(_, case)| case).collect(),
        question: Question::Others,
        goal: SIGNALS[SIGNALS.len() - 1].1,
    })
}

/// One signal for each item: the strongest, at the time of the last; in order of time.
fn strongest(mut history: Vec<Signal>) -> Vec<Signal> {
    history.sort_by_key(|signal| (signal.item, signal.time));
    let mut merged: Vec<Signal> = Vec::with_capacity(history.len());
    for signal in history {
        match merged.last_mut().filter(|last| last.item == signal.item) {
            Some(last) => {
                last.weight = last.weight.max(signal.weight);
                last.time = signal.time;
            }
            None => merged.push(signal),
        }
    }
    merged.sort_by_key(|signal| (signal.time, signal.item));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_share_the_catalogue_of_both_files() {
        let split = pairs("u a b\nv b c\n", "v a d\nw c\nu\n").unwrap();
        assert_eq!((split.train.items(), split.train.histories()), (4, 2));
        assert_eq!(split.cases.len(), 2);
        assert_eq!(split.cases[0].targets, [0, 3]);
        assert_eq!(split.cases[0].history, plain(&[1, 2]));
        assert_eq!(split.cases[1].history, []);
    }

    #[test]
    fn the_last_item_of_a_sequence_is_not_learnt_from() {
        let split = sequences("u a b c\n", None).unwrap();
        assert_eq!(split.train.history(0), plain(&[0, 1]));
        assert_eq!((split.train.items(), split.cases[0].targets[0]), (3, 2));
        let split = sequences("u a b c\n", Some("v c d\n")).unwrap();
        assert_eq!(split.train.history(0), plain(&[0, 1, 2]));
        assert_eq!((split.cases.len(), split.cases[0].targets[0]), (1, 3));
    }

    #[test]
    fn formats_are_found_out() {
        let check = |train: &str, test: Option<&str>, expected: SplitFormat| {
            assert_eq!(found_out(train, test), expected, "{train:?} {test:?}");
        };
        check("u a b\n", None, SplitFormat::Sequence);
        check("u a b\n", Some("u a b\n"), SplitFormat::Sequence);
        check("u a b\n", Some("u c\n"), SplitFormat::Pairs);
        check("a b c\n", Some("a b\tc\n"), SplitFormat::Session);
        check(
            "user,item,type,time\n",
            Some("user,item\n"),
            SplitFormat::Events,
        );
    }

    #[test]
    fn a_session_without_a_target_is_refused_with_its_line() {
        let error = sessions("a b\n", "a\tb\na b\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn events_of_an_item_become_its_strongest_signal() {
        let train = "user,item,type,timestamp\nu,a,view,10\nu,b,view,11\nu,a,buy,12\nu,a,view,15\n";
        let split = events(train, "user,item\nu,c\nx,a\n").unwrap();
        let found: Vec<(u32, f32, i64)> = split
            .train
            .history(0)
            .iter()
            .map(|s| (s.item, s.weight, s.time))
            .collect();
        assert_eq!(found, [(1, 1.0, 11), (0, 4.0, 15)]);
        assert_eq!(split.cases.len(), 2);
        assert_eq!(split.cases[1].history, []);
    }
}
