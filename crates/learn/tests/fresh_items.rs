//! Items that came after a model was learnt, on a real shop's year: they are found by who takes them, and lists become better for it.

use std::collections::HashMap;

use chrono::NaiveDateTime;
use tidemill_learn::recommend::{
    Interactions, ItemIndex, LiveLinks, Query, Question, Recommendations, Recommender, Signal,
};

/// The newest things that somebody took which a server keeps.
const HISTORY_MAX: usize = 50;
/// Seconds in a day.
const DAY: i64 = 86_400;

/// A line of an order.
struct Line {
    time: i64,
    order: String,
    customer: usize,
    item: ItemIndex,
}

/// What customers ordered, in the order of time, with how many customers and items there are.
fn lines() -> (Vec<Line>, usize, usize) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../demo/online_retail.csv.zst"
    );
    let file = std::fs::File::open(path).expect("the demo's data");
    let text = zstd::Decoder::new(file).expect("zstd");
    let (mut customers, mut items) = (HashMap::new(), HashMap::new());
    let mut lines = Vec::new();
    for row in csv::Reader::from_reader(text).records() {
        let row = row.expect("a row");
        let quantity: i64 = row[3].parse().expect("a quantity");
        if quantity <= 0 {
            continue;
        }
        let next = customers.len();
        let who = if row[6].is_empty() { &row[0] } else { &row[6] };
        let customer = *customers.entry(who.to_owned()).or_insert(next);
        let next = items.len() as ItemIndex;
        let item = *items.entry(row[1].to_owned()).or_insert(next);
        let time = NaiveDateTime::parse_from_str(&row[4], "%Y-%m-%d %H:%M:%S");
        lines.push(Line {
            time: time.expect("a time").and_utc().timestamp(),
            order: row[0].to_owned(),
            customer,
            item,
        });
    }
    lines.sort_by_key(|line| line.time);
    (lines, customers.len(), items.len())
}

fn histories(lines: &[Line], customers: usize, until: i64) -> Vec<Vec<Signal>> {
    let mut histories = vec![Vec::new(); customers];
    for line in lines.iter().take_while(|line| line.time < until) {
        histories[line.customer].push(Signal {
            item: line.item,
            weight: 1.0,
            time: line.time,
        });
    }
    histories
}

/// What became of lists: hits in all, and of items that are fresh.
#[derive(Default, Debug)]
struct Hits {
    baskets: usize,
    with_any: usize,
    items: usize,
    fresh: usize,
}

impl Hits {
    fn add(&mut self, other: Self) {
        self.baskets += other.baskets;
        self.with_any += other.with_any;
        self.items += other.items;
        self.fresh += other.fresh;
    }
}

/// Asks before each order from `begin` to `end`, and shows what was ordered afterwards.
fn live(
    model: &Recommendations,
    lines: &[Line],
    (learnt_until, begin, end): (i64, i64, i64),
    customers: usize,
    is_live: bool,
) -> Hits {
    let mut links = LiveLinks::beside(model).expect("a graph");
    let mut now = histories(lines, customers, begin);
    if is_live {
        for history in &now {
            let new = vec![true; history.len()];
            if history.last().is_some_and(|last| last.time >= learnt_until) {
                links.observe(history, &new);
            }
        }
    }
    let mut scratch = model.scratch_live();
    let mut hits = Hits::default();
    let asked: Vec<&Line> = lines
        .iter()
        .filter(|line| line.time >= begin && line.time < end)
        .collect();
    for order in asked.chunk_by(|one, other| one.order == other.order) {
        let history = &mut now[order[0].customer];
        let query = Query {
            now: order[0].time,
            ..Query::new(history)
        };
        let live = is_live.then_some(&links);
        let best = model.recommend_live(&query, 10, &mut scratch, live);
        let hit = |item: &ItemIndex| order.iter().any(|line| line.item == *item);
        let found: Vec<ItemIndex> = best.into_iter().map(|(item, _)| item).filter(hit).collect();
        hits.baskets += 1;
        hits.with_any += usize::from(!found.is_empty());
        hits.items += found.len();
        hits.fresh += found.iter().filter(|item| links.is_fresh(**item)).count();
        let before = history.len();
        history.extend(order.iter().map(|line| Signal {
            item: line.item,
            weight: 1.0,
            time: line.time,
        }));
        let start = history.len().saturating_sub(HISTORY_MAX);
        let new: Vec<bool> = (start..history.len())
            .map(|place| place >= before)
            .collect();
        if is_live {
            links.observe(&history[start..], &new);
        }
    }
    hits
}

/// What lists held with what came since and without, in some periods of 28 days, by models that are 30 days old when one begins.
fn compared(periods: &[i64], recommender: &Recommender) -> [Hits; 2] {
    let (lines, customers, items) = lines();
    let start = lines[0].time;
    let [mut with, mut without] = [Hits::default(), Hits::default()];
    for period in periods {
        let begin = start + period * 28 * DAY;
        let learnt_until = begin - 30 * DAY;
        let mut train = Interactions::builder();
        for history in histories(&lines, customers, learnt_until) {
            train.push(history);
        }
        let model = recommender.fit(&train.build(items));
        let when = (learnt_until, begin, begin + 28 * DAY);
        let [gained, plain] =
            [true, false].map(|is_live| live(&model, &lines, when, customers, is_live));
        println!("period {period}: {gained:?}; without what came since {plain:?}");
        with.add(gained);
        without.add(plain);
    }
    println!("all: {with:?}; without what came since {without:?}");
    [with, without]
}

#[test]
fn lists_are_better_for_what_came_since() {
    let recommender = Recommender {
        ranker: None,
        ..Recommender::quick(Question::Later)
    };
    let [with, without] = compared(&[5, 10], &recommender);
    assert_eq!(without.fresh, 0);
    assert!(with.fresh > 100, "{with:?}");
    let gain = with.items as f64 / without.items as f64;
    assert!(gain > 1.005, "{gain}: {with:?}, {without:?}");
    assert!(with.with_any > without.with_any, "{with:?}, {without:?}");
}

#[test]
#[ignore = "the figures of docs/recommend.md, a minute and a half in release"]
fn in_all_periods_that_were_measured() {
    let recommender = Recommender::quick(Question::Later);
    let [with, without] = compared(&[5, 8, 9, 10, 11, 12, 13], &recommender);
    assert!(with.items > without.items, "{with:?}, {without:?}");
}
