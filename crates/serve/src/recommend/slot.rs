//! A model that recommends, with what answers it now.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tidemill_core::event::PersonKey;
use tidemill_core::project::{Project, ProjectError, RecommendModel};
use tidemill_core::sync::{Mutex, RwLock};
use tidemill_core::{Offset, Timestamp};
use tidemill_features::engine::History;
use tidemill_features::expression::{ItemExpression, ItemResult};
use tidemill_features::{FeatureSet, ModelFeatures};
use tidemill_learn::recommend::{ItemIndex, Query, Scratch};

use super::catalogue::{Catalogue, Known};
use super::fresh::FreshItems;
use super::package::RecommendPackage;
use crate::rollout::Challenger;

/// What the project file says about what may be shown and what is worth more, compiled.
#[derive(Debug, Clone, Default)]
pub struct Rulebook {
    /// What may be shown.
    pub filter: Option<ItemExpression>,
    /// What is worth more.
    pub boost: Option<ItemExpression>,
}

impl Rulebook {
    /// Compiles the rules of a model.
    ///
    /// # Errors
    /// What is wrong with them, with their lines.
    pub fn compile(
        project: &Project,
        model: &RecommendModel,
        set: &FeatureSet,
    ) -> Result<Self, ProjectError> {
        let items = project.items.as_ref();
        let compile = |text: &Option<_>, what: &str, result| {
            let place = format!("models.{}.{what}", model.name);
            let text = text.as_ref();
            text.map(|text| ItemExpression::of_project(text, &place, result, items, set))
                .transpose()
        };
        Ok(Self {
            filter: compile(&model.filter, "filter", ItemResult::Truth)?,
            boost: compile(&model.boost, "boost", ItemResult::Number)?,
        })
    }
}

/// How far a version has been shown what people took since it was learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CaughtUp {
    /// Not at all yet.
    #[default]
    Not,
    /// What those up to a person took, in the order of their keys.
    UpTo(PersonKey),
    /// What everybody took.
    Fully,
}

/// The version that recommends, with what it needs to.
pub struct RecommendChampion {
    /// Its number.
    pub number: u32,
    /// The packaged model.
    pub package: RecommendPackage,
    /// The numbers of its items.
    pub index: HashMap<Arc<str>, ItemIndex>,
    /// Of items that nobody had taken when it was learnt; absent where its model cannot go on with them.
    fresh: Option<RwLock<FreshItems>>,
    caught_up: Mutex<CaughtUp>,
    /// The features of people that it reads; absent where it reads none, or they are not declared any more.
    pub(super) person: Option<ModelFeatures>,
    scratch: Mutex<Vec<Scratch>>,
    /// The newest items that the version does not know, as of a change of the catalogue.
    new: Mutex<(u64, Arc<[Arc<str>]>)>,
}

impl RecommendChampion {
    /// A version in memory. `person` has the features that the package reads, in its order.
    pub fn new(number: u32, package: RecommendPackage, person: Option<ModelFeatures>) -> Self {
        Self {
            number,
            index: package.index(),
            fresh: FreshItems::beside(&package).map(RwLock::new),
            caught_up: Mutex::default(),
            package,
            person,
            scratch: Mutex::default(),
            new: Mutex::new((0, Arc::new([]))),
        }
    }

    /// The same version with another number, spoilt: none of its log-odds is a number. What came since it was learnt it does not know.
    #[must_use]
    pub fn without_numbers(&self, number: u32) -> Self {
        let mut package = self.package.clone();
        package.fitted = package.fitted.without_numbers();
        Self::new(number, package, self.person.clone())
    }

    /// The newest items that may be shown and that the version does not know.
    pub(super) fn new_items(&self, catalogue: &Catalogue, now: Timestamp) -> Vec<Arc<Known>> {
        let unknown = {
            let mut known = self.new.lock();
            if known.0 != catalogue.added() {
                let (added, newest) = catalogue.newest();
                let unknown = newest.into_iter().filter(|id| !self.index.contains_key(id));
                *known = (added, unknown.collect());
            }
            known.1.clone()
        };
        catalogue.available(&unknown, now)
    }

    /// The number of an item, one that came since included.
    pub(super) fn number(&self, id: &str) -> Option<ItemIndex> {
        let learnt = self.index.get(id).copied();
        learnt.or_else(|| self.fresh.as_ref()?.read().number(id))
    }

    /// The item of a number.
    fn name(&self, item: ItemIndex, fresh: Option<&FreshItems>) -> Option<Arc<str>> {
        let learnt = self.package.items.get(item as usize);
        learnt.or_else(|| fresh?.name(item)).cloned()
    }

    /// The best `limit` items with their log-odds, those that came since among them.
    pub(super) fn best(&self, query: &Query<'_>, limit: usize) -> Vec<(Arc<str>, ItemIndex, f64)> {
        let fresh = self.fresh.as_ref().map(RwLock::read);
        let fresh = fresh.as_deref();
        let links = fresh.map(FreshItems::links);
        let fitted = &self.package.fitted;
        let best = self.with_scratch(|scratch| fitted.recommend_live(query, limit, scratch, links));
        let named = best.into_iter().filter_map(|(item, score)| {
            let id = self.name(item, fresh)?;
            Some((id, item, f64::from(score)))
        });
        named.collect()
    }

    /// The log-odds of given items, in their order.
    pub(super) fn scores(&self, query: &Query<'_>, items: &[ItemIndex]) -> Vec<f64> {
        let fresh = self.fresh.as_ref().map(RwLock::read);
        let links = fresh.as_deref().map(FreshItems::links);
        let fitted = &self.package.fitted;
        let scores = self.with_scratch(|scratch| fitted.score(query, items, scratch, links));
        scores.into_iter().map(f64::from).collect()
    }

    /// How well one item goes with another, from 0 to 1.
    pub(super) fn goes_with(&self, from: ItemIndex, to: ItemIndex) -> f32 {
        if let Some(fresh) = &self.fresh {
            let fresh = fresh.read();
            let links = fresh.links();
            if links.is_fresh(from) || links.is_fresh(to) {
                return links.likeness(from, to);
            }
        }
        self.package.fitted.likeness(from, to)
    }

    /// How far it has been shown what people took since it was learnt.
    pub fn caught_up(&self) -> CaughtUp {
        match &self.fresh {
            Some(_) => self.caught_up.lock().clone(),
            None => CaughtUp::Fully,
        }
    }

    /// Notes how far it has been shown what people took.
    pub fn set_caught_up(&self, caught_up: CaughtUp) {
        *self.caught_up.lock() = caught_up;
    }

    /// Whether what somebody takes says anything of an item that nobody had taken: it is such an item, or they have taken one. The person
    /// as joined.
    pub fn is_news(&self, person: &PersonKey, item: &str) -> bool {
        let Some(fresh) = &self.fresh else {
            return false;
        };
        let number = self.index.get(item).copied();
        let learnt = number.is_some_and(|number| self.package.fitted.has_learnt(number));
        !learnt || fresh.read().is_counted(person)
    }

    /// What a person has taken up to now by its signals: items that nobody had taken when the version was learnt get their links. What is
    /// after an offset is new; of somebody who is seen for the first time all is.
    pub fn observe(&self, history: &History, after: Offset) {
        let Some(fresh) = &self.fresh else {
            return;
        };
        let package = (&self.package, &self.index);
        fresh.write().observe(history, after, package);
    }

    /// Lends memory for one query; as many queries as there are at a time have theirs.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let lent = self.scratch.lock().pop();
        let fitted = &self.package.fitted;
        let mut scratch = lent.unwrap_or_else(|| match self.fresh {
            Some(_) => fitted.scratch_live(),
            None => fitted.scratch(),
        });
        let result = work(&mut scratch);
        self.scratch.lock().push(scratch);
        result
    }
}

/// A model of the project that recommends.
pub struct RecommendSlot {
    /// The model.
    pub model: RecommendModel,
    champion: ArcSwapOption<RecommendChampion>,
    challenger: ArcSwapOption<Challenger<RecommendChampion>>,
    rules: ArcSwap<Rulebook>,
    /// What everybody takes, as the newest run found it.
    popular: ArcSwap<Vec<Arc<str>>>,
}

impl RecommendSlot {
    pub(crate) fn new(model: &RecommendModel) -> Self {
        Self {
            model: model.clone(),
            champion: ArcSwapOption::empty(),
            challenger: ArcSwapOption::empty(),
            rules: ArcSwap::default(),
            popular: ArcSwap::default(),
        }
    }

    /// The same model with the same champion, apart from everybody: what happens there is heard by nobody.
    pub fn apart(&self) -> Self {
        let apart = Self::new(&self.model);
        apart.champion.store(self.champion.load_full());
        apart.rules.store(self.rules.load_full());
        apart.popular.store(self.popular.load_full());
        apart
    }

    /// The version that answers. A request keeps the one that it got, whatever is swapped meanwhile.
    pub fn champion(&self) -> Option<Arc<RecommendChampion>> {
        self.champion.load_full()
    }

    /// Lets another version answer from now on, or none.
    pub fn set_champion(&self, champion: Option<Arc<RecommendChampion>>) {
        self.champion.store(champion);
    }

    /// The version that takes over, where one does.
    pub fn challenger(&self) -> Option<Arc<Challenger<RecommendChampion>>> {
        self.challenger.load_full()
    }

    /// Lets a version take over, or from now on none.
    pub fn set_challenger(&self, challenger: Option<Arc<Challenger<RecommendChampion>>>) {
        self.challenger.store(challenger);
    }

    /// The versions in memory, which are shown what people take: the one that answers, and one that takes over.
    pub fn versions(&self) -> impl Iterator<Item = Arc<RecommendChampion>> {
        let challenger = self.challenger();
        let challenger = challenger.map(|challenger| challenger.version.clone());
        self.champion().into_iter().chain(challenger)
    }

    /// What the project file says about what may be shown.
    pub fn rules(&self) -> Arc<Rulebook> {
        self.rules.load_full()
    }

    /// Sets what the project file says, compiled for the features that there are now.
    pub fn set_rules(&self, rules: Rulebook) {
        self.rules.store(Arc::new(rules));
    }

    /// What is shown where no version answers, best first.
    pub fn popular(&self) -> Arc<Vec<Arc<str>>> {
        self.popular.load_full()
    }

    /// Sets what is shown where no version answers.
    pub fn set_popular(&self, items: Vec<Arc<str>>) {
        self.popular.store(Arc::new(items));
    }
}
