//! One list while it is made: candidates, what may be shown, what is worth more, the choice, the reasons.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidemill_core::decision::ShownItem;
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureValue, Item, Timestamp};
use tidemill_features::Engine;
use tidemill_features::expression::{Asking, ItemExpression, ItemResult};
use tidemill_learn::recommend::{ItemIndex, Query, Signal};

use super::ask::Ask;
use super::catalogue::Known;
use super::choose::{Rules, choose};
use super::slot::{RecommendChampion, RecommendSlot};
use crate::answer::{Answerer, ServeError};

/// How many candidates the model is asked for.
const CANDIDATES: usize = 300;
/// Of these, the best ones that a list is chosen from: at least so many, and three for each place.
const POOL_MIN: usize = 100;
/// Items that are looked at at a time when all of the catalogue is.
const CHUNK: usize = 4_096;
/// The newest things that somebody took which new items and reasons are compared with.
const COMPARED: usize = 10;
/// How alike a new item must be to something that somebody took.
const ALIKE_MIN: f64 = 0.2;

/// An item that could be shown.
pub(super) struct Candidate {
    pub(super) id: Arc<str>,
    index: Option<ItemIndex>,
    pub(super) score: f64,
    known: Arc<Known>,
    /// What it is like, where it is new.
    new_like: Option<Arc<str>>,
}

/// What somebody took, oldest first: the item, what the signal weighs, when.
pub(super) struct Past {
    pub(super) person: Option<PersonKey>,
    pub(super) offset: tidemill_core::Offset,
    pub(super) taken: Vec<(Arc<str>, f32, Timestamp)>,
}

pub(super) fn taken_items(past: &Past, ask: &Ask<'_>) -> HashSet<Arc<str>> {
    let session = ask.session.iter().map(|item| Arc::from(item.as_str()));
    past.taken
        .iter()
        .map(|(item, ..)| item.clone())
        .chain(session)
        .collect()
}

/// One list while it is made.
pub(super) struct List<'a> {
    pub(super) answerer: &'a Answerer,
    pub(super) slot: &'a RecommendSlot,
    pub(super) champion: Option<&'a RecommendChampion>,
    pub(super) ask: &'a Ask<'a>,
    pub(super) moment: Timestamp,
    /// What the person has taken or looks at.
    pub(super) taken: HashSet<Arc<str>>,
    pub(super) history: &'a Past,
    /// The expressions that hold.
    pub(super) asked: Asked,
    /// The features of the person that the version reads; empty where nothing is known.
    pub(super) person: &'a [FeatureValue],
    /// What stood in the lists that this one goes on with.
    pub(super) before: HashSet<String>,
    /// What was shown as often as it may be.
    pub(super) too_often: HashSet<String>,
}

/// The expressions that hold for a list, with what they ask of the person.
pub(super) struct Asked {
    filters: Vec<ItemExpression>,
    boosts: Vec<ItemExpression>,
    user: BTreeMap<String, FeatureValue>,
}

impl Asked {
    /// The expressions of the project file and of the request.
    pub(super) fn of(
        answerer: &Answerer,
        engine: &Engine,
        slot: &RecommendSlot,
        (ask, person, moment): (&Ask<'_>, Option<&PersonKey>, Timestamp),
    ) -> Result<Self, ServeError> {
        let rules = slot.rules();
        let set = engine.set();
        let compile = |text: Option<&str>, field: &'static str, result| {
            let items = answerer.items.as_ref();
            let compile = |text| ItemExpression::compile(text, result, items, set);
            text.map(compile)
                .transpose()
                .map_err(|(message, hint)| ServeError::BadExpression {
                    field,
                    message,
                    hint,
                })
        };
        let filter = compile(ask.filter, "filter", ItemResult::Truth)?;
        let boost = compile(ask.boost, "boost", ItemResult::Number)?;
        let filters: Vec<ItemExpression> = rules.filter.iter().cloned().chain(filter).collect();
        let boosts: Vec<ItemExpression> = rules.boost.iter().cloned().chain(boost).collect();
        let mut names: Vec<&str> = filters
            .iter()
            .chain(&boosts)
            .flat_map(ItemExpression::features)
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut user = BTreeMap::new();
        if let (Some(person), false) = (person, names.is_empty()) {
            let features = set.select_columns(&names).map_err(ServeError::Features)?;
            let row = engine.read(person, moment, &features);
            let values = row.map_err(ServeError::Features)?.values;
            user.extend(names.iter().map(|name| (*name).to_owned()).zip(values));
        }
        Ok(Self {
            filters,
            boosts,
            user,
        })
    }
}

impl List<'_> {
    /// The history as the model reads it.
    fn signals(&self, champion: &RecommendChampion) -> Vec<Signal> {
        let signal = |item: &str, weight: f32, time: Timestamp| {
            Some(Signal {
                item: champion.number(item)?,
                weight,
                time: time.micros() / 1_000_000,
            })
        };
        let past = self.history.taken.iter();
        let past = past.filter_map(|(item, weight, time)| signal(item, *weight, *time));
        let session = self.ask.session.iter();
        let session = session.filter_map(|item| signal(item, 1.0, self.moment));
        past.chain(session).collect()
    }

    /// What could be shown, best first.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let ranked: Vec<(Arc<str>, Option<ItemIndex>, f64)> = match (self.ask.given, self.champion)
        {
            (Some(given), champion) => self.given(given, champion),
            (None, Some(champion)) => {
                let signals = self.signals(champion);
                let best = champion
                    .best(&self.query(champion, &signals), CANDIDATES)
                    .into_iter();
                best.map(|(id, item, score)| (id, Some(item), score))
                    .collect()
            }
            (None, None) => {
                let popular = self.slot.popular();
                let ranked = popular.iter().enumerate();
                // what everybody takes, the first one best
                ranked
                    .map(|(rank, id)| (id.clone(), None, -(rank as f64)))
                    .collect()
            }
        };
        let mut candidates = self.allowed(ranked);
        if self.ask.given.is_none() && candidates.len() < self.ask.limit {
            candidates.extend(self.rest(&candidates));
        }
        if self.ask.given.is_none() && candidates.is_empty() && self.champion.is_none() {
            candidates.extend(self.newest());
        }
        self.boost(&mut candidates);
        candidates.sort_by(|one, other| other.score.total_cmp(&one.score));
        candidates
    }

    fn query<'s>(&'s self, champion: &'s RecommendChampion, signals: &'s [Signal]) -> Query<'s> {
        let now = self.moment.micros() / 1_000_000;
        let query = champion.package.query(signals, now, self.person);
        Query {
            segment: query.segment.or_else(|| self.segment_said(champion)),
            ..query
        }
    }

    /// The segment of somebody of whom it is not known, as the request says it: the country, where people are divided by `user.country`.
    fn segment_said(&self, champion: &RecommendChampion) -> Option<&str> {
        let segment = champion.package.segment.as_ref()?;
        let name = segment.name.strip_prefix("user.")?;
        self.ask.context.get(name)?.as_str()
    }

    /// Given items with their scores.
    fn given(
        &self,
        given: &[String],
        champion: Option<&RecommendChampion>,
    ) -> Vec<(Arc<str>, Option<ItemIndex>, f64)> {
        let mut seen = HashSet::new();
        let ids = given.iter().filter(|id| seen.insert(id.as_str()));
        let ids: Vec<Arc<str>> = ids.map(|id| Arc::from(id.as_str())).collect();
        let Some(champion) = champion else {
            let ranked = ids.into_iter().enumerate();
            return ranked
                .map(|(rank, id)| (id, None, -(rank as f64)))
                .collect();
        };
        let known: Vec<ItemIndex> = ids.iter().filter_map(|id| champion.number(id)).collect();
        let scores = self.scores(champion, &known);
        // what the model does not know comes last
        let unknown = scores.iter().copied().fold(0.0, f64::min) - 1.0;
        let by_index: HashMap<ItemIndex, f64> = known.into_iter().zip(scores).collect();
        let scored = ids.into_iter().map(|id| {
            let index = champion.number(&id);
            let score = index.and_then(|index| by_index.get(&index).copied());
            (id, index, score.unwrap_or(unknown))
        });
        scored.collect()
    }

    fn scores(&self, champion: &RecommendChampion, items: &[ItemIndex]) -> Vec<f64> {
        let signals = self.signals(champion);
        champion.scores(&self.query(champion, &signals), items)
    }

    /// All that the model knows and that may be shown, where its best candidates leave too few: a filter may leave three items of a
    /// million.
    fn rest(&self, known: &[Candidate]) -> Vec<Candidate> {
        let Some(champion) = self.champion else {
            return Vec::new();
        };
        let known: HashSet<ItemIndex> = known.iter().filter_map(|known| known.index).collect();
        let mut rest = Vec::new();
        let all: Vec<ItemIndex> = (0..champion.package.items.len() as ItemIndex).collect();
        for chunk in all.chunks(CHUNK) {
            let others = chunk.iter().filter(|item| !known.contains(item));
            let named = others.map(|item| {
                let id = champion.package.items[*item as usize].clone();
                (id, Some(*item), 0.0)
            });
            rest.extend(self.allowed(named.collect()));
        }
        let items: Vec<ItemIndex> = rest
            .iter()
            .filter_map(|candidate| candidate.index)
            .collect();
        let scores = self.scores(champion, &items);
        for (candidate, score) in rest.iter_mut().zip(scores) {
            candidate.score = score;
        }
        rest.sort_by(|one, other| other.score.total_cmp(&one.score));
        rest.truncate(CANDIDATES);
        rest
    }

    /// Before anything was learnt: the newest items.
    fn newest(&self) -> Vec<Candidate> {
        let catalogue = &self.answerer.catalogue;
        let newest = catalogue.available(&catalogue.newest().1, self.moment);
        let ranked = newest
            .iter()
            .enumerate()
            .map(|(rank, known)| (Arc::from(known.item.id.as_str()), None, -(rank as f64)));
        self.allowed(ranked.collect())
    }

    /// Those that may be shown.
    fn allowed(&self, ranked: Vec<(Arc<str>, Option<ItemIndex>, f64)>) -> Vec<Candidate> {
        let is_ranking = self.ask.given.is_some();
        let hides_taken = self.slot.model.repeat == Some(false)
            || (self.slot.model.repeat.is_none()
                && self
                    .champion
                    .is_some_and(|champion| champion.package.fitted.excludes_seen()));
        let catalogue = &self.answerer.catalogue;
        let known = catalogue.known(ranked.iter().map(|(id, ..)| id.as_ref()), self.moment);
        let mut candidates = Vec::with_capacity(ranked.len());
        for ((id, index, score), known) in ranked.into_iter().zip(known) {
            let is_wanted = is_ranking
                || !(self.ask.exclude.contains(id.as_ref())
                    || self.before.contains(id.as_ref())
                    || self.too_often.contains(id.as_ref())
                    || (hides_taken && self.taken.contains(&id)));
            let known = match known {
                Some(known) => known,
                None if is_ranking => Arc::new(Known::bare(&id)),
                None => continue,
            };
            if is_wanted {
                candidates.push(Candidate {
                    id,
                    index,
                    score,
                    known,
                    new_like: None,
                });
            }
        }
        if is_ranking {
            return candidates;
        }
        for filter in &self.asked.filters {
            let allows = filter.allows(&self.looked_at(&candidates), self.asking());
            let mut allows = allows.into_iter();
            candidates.retain(|_| allows.next() == Some(true));
        }
        candidates
    }

    fn looked_at<'c>(&self, candidates: &'c [Candidate]) -> Vec<(&'c Item, bool)> {
        let candidates = candidates.iter();
        candidates
            .map(|candidate| (&candidate.known.item, self.taken.contains(&candidate.id)))
            .collect()
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            user: &self.asked.user,
            request: self.ask.context,
            now: self.moment,
        }
    }

    fn boost(&self, candidates: &mut Vec<Candidate>) {
        for boost in &self.asked.boosts {
            let factors = boost.factors(&self.looked_at(candidates), self.asking());
            for (candidate, factor) in candidates.iter_mut().zip(factors) {
                candidate.score += factor.ln();
            }
            // what is no number stays: the version has failed, and its list is not merely short
            candidates.retain(|candidate| candidate.score != f64::NEG_INFINITY);
        }
    }

    /// The list, out of the candidates.
    pub(super) fn choose<'c>(
        &self,
        candidates: &'c mut Vec<Candidate>,
        seed: u64,
    ) -> Vec<(ShownItem, &'c Candidate)> {
        let ask = self.ask;
        let pool = candidates.len().min(POOL_MIN.max(3 * ask.limit));
        let mut numbers: HashMap<(&str, String), usize> = HashMap::new();
        let kinds: Vec<Vec<(usize, usize)>> = candidates[..pool]
            .iter()
            .map(|candidate| {
                let caps = self.slot.model.caps.iter();
                caps.filter_map(|(attribute, most)| {
                    let value = candidate.known.item.attributes.get(attribute)?;
                    let next = numbers.len();
                    let kind = (attribute.as_str(), value.to_string());
                    Some((*numbers.entry(kind).or_insert(next), *most))
                })
                .collect()
            })
            .collect();
        let scores: Vec<f64> = candidates[..pool].iter().map(|one| one.score).collect();
        let alike = |one: usize, other: usize| self.alike(&candidates[one], &candidates[other]);
        let rules = Rules {
            limit: ask.limit,
            diversity: ask.diversity,
            explore: ask.explore,
            seed,
        };
        let kinds = if ask.given.is_some() { &[][..] } else { &kinds };
        let mut chosen: Vec<(usize, f64, bool)> = choose(&scores, kinds, alike, rules)
            .into_iter()
            .map(|chosen| (chosen.candidate, chosen.propensity, chosen.explored))
            .collect();
        if ask.given.is_none()
            && let Some(new) = self.new_one()
            && !chosen
                .iter()
                .any(|(candidate, ..)| candidates[*candidate].id == new.id)
        {
            candidates.push(new);
            // the last place is for what nobody could have taken yet
            chosen.truncate(ask.limit.saturating_sub(1));
            chosen.push((candidates.len() - 1, 1.0, true));
        }
        let candidates = &*candidates;
        let shown = chosen.into_iter().map(|(candidate, propensity, explored)| {
            let candidate = &candidates[candidate];
            let shown = ShownItem {
                item: candidate.id.to_string(),
                score: candidate.score,
                propensity,
                explored,
            };
            (shown, candidate)
        });
        shown.collect()
    }

    /// The new item that is most like what somebody took lately, if any is: the model cannot know it yet.
    fn new_one(&self) -> Option<Candidate> {
        let champion = self.champion?;
        let catalogue = &self.answerer.catalogue;
        let lately: Vec<&str> = self.lately().collect();
        if lately.is_empty() || self.ask.limit < 2 {
            return None;
        }
        let lately = catalogue.known(lately.into_iter(), self.moment);
        let new = champion.new_items(catalogue, self.moment);
        if new.is_empty() {
            return None;
        }
        let ranked = new
            .iter()
            .map(|known| (Arc::from(known.item.id.as_str()), None, 0.0));
        let new = self.allowed(ranked.collect()).into_iter();
        let likenesses = new
            .filter(|new| !self.taken.contains(&new.id))
            .map(|mut new| {
                let mut most = 0.0;
                for known in lately.iter().flatten() {
                    let alike = catalogue.likeness(&new.known, known);
                    if alike >= ALIKE_MIN && alike > most {
                        most = alike;
                        new.new_like = Some(Arc::from(known.item.id.as_str()));
                    }
                }
                (most, new)
            });
        let best = likenesses.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map(|(_, new)| new)
            .filter(|new| new.new_like.is_some())
    }

    /// The newest things that the person looked at or took, the newest first.
    fn lately(&self) -> impl Iterator<Item = &str> {
        let session = self.ask.session.iter().rev().map(String::as_str);
        let past = self.history.taken.iter().rev();
        session
            .chain(past.map(|(item, ..)| item.as_ref()))
            .take(COMPARED)
    }

    fn alike(&self, one: &Candidate, other: &Candidate) -> f64 {
        match (self.champion, one.index, other.index) {
            (Some(champion), Some(one), Some(other))
                if [one, other].map(|item| champion.package.fitted.has_learnt(item))
                    == [true; 2] =>
            {
                f64::from(champion.package.fitted.likeness(one, other))
            }
            _ => self.answerer.catalogue.likeness(&one.known, &other.known),
        }
    }

    /// Why an item stands in the list.
    pub(super) fn reason(&self, shown: &ShownItem, candidate: &Candidate) -> String {
        let title = |id: &str| self.answerer.catalogue.title(id);
        if let Some(like) = &candidate.new_like {
            return format!("new, and like {}", title(like));
        }
        if shown.explored {
            return "drawn at random, to learn about it".to_owned();
        }
        let Some(champion) = self.champion else {
            return "popular".to_owned();
        };
        if self.taken.contains(&candidate.id) && self.ask.person.is_some() {
            return "taken before".to_owned();
        }
        let because = self.lately().filter_map(|id| {
            let likeness = champion.goes_with(champion.number(id)?, candidate.index?);
            (likeness > 0.0 && id != candidate.id.as_ref()).then_some((likeness, id))
        });
        match because.max_by(|one, other| one.0.total_cmp(&other.0)) {
            Some((_, id)) => format!("because of {}", title(id)),
            None => self.popular_with(champion, candidate),
        }
    }

    /// With whom an item is popular of which nothing else can be said.
    fn popular_with(&self, champion: &RecommendChampion, candidate: &Candidate) -> String {
        let segment = self.query(champion, &[]).segment;
        let fitted = &champion.package.fitted;
        match (segment, candidate.index) {
            (Some(segment), Some(item)) if fitted.is_popular_in(segment, item) => {
                format!("popular in {segment}")
            }
            _ => "popular".to_owned(),
        }
    }
}
