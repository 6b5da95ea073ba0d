//! A model that recommends, with what answers it now.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tidemill_core::Timestamp;
use tidemill_core::project::{Project, ProjectError, RecommendModel};
use tidemill_features::expression::{ItemExpression, ItemResult};
use tidemill_features::{FeatureSet, ModelFeatures};
use tidemill_learn::recommend::{ItemIndex, Scratch};

use super::catalogue::{Catalogue, Known};
use super::package::RecommendPackage;

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

/// The version that recommends, with what it needs to.
pub struct RecommendChampion {
    /// Its number.
    pub number: u32,
    /// The packaged model.
    pub package: RecommendPackage,
    /// The numbers of its items.
    pub index: HashMap<Arc<str>, ItemIndex>,
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
            package,
            person,
            scratch: Mutex::default(),
            new: Mutex::new((0, Arc::new([]))),
        }
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

    /// Lends memory for one query; as many queries as there are at a time have theirs.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let lent = self.scratch.lock().pop();
        let mut scratch = lent.unwrap_or_else(|| self.package.fitted.scratch());
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
    rules: ArcSwap<Rulebook>,
    /// What everybody takes, as the newest run found it.
    popular: ArcSwap<Vec<Arc<str>>>,
}

impl RecommendSlot {
    pub(crate) fn new(model: &RecommendModel) -> Self {
        Self {
            model: model.clone(),
            champion: ArcSwapOption::empty(),
            rules: ArcSwap::default(),
            popular: ArcSwap::default(),
        }
    }

    /// The version that answers. A request keeps the one that it got, whatever is swapped meanwhile.
    pub fn champion(&self) -> Option<Arc<RecommendChampion>> {
        self.champion.load_full()
    }

    /// Lets another version answer from now on, or none.
    pub fn set_champion(&self, champion: Option<Arc<RecommendChampion>>) {
        self.champion.store(champion);
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
