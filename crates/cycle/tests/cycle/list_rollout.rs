//! How versions that recommend take over: good ones step by step, bad ones not, and everybody gets a whole list.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::decision::{Fallback, RolloutArm};
use tidemill_core::{Clock, Event, ModelName, RunId, Span, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_serve::recommend::{RecommendPackage, RecommendRequest, Recommendation};
use tidemill_store::catalog::{Rollout, RolloutStage, Version};

use crate::shop::open;

pub(crate) const PEOPLE: u64 = 300;
/// Kinds of drinks, each with as many drinks.
const KINDS: u64 = 6;
const DRINKS_OF_A_KIND: u64 = 30;
const DAYS: i64 = 60;
/// A bad version must be gone after so many questions.
const QUESTIONS_MAX: u64 = 1_000;
/// How many questions pass between two looks of the loop.
const LOOK_EVERY: u64 = 20;
/// How long the lists are.
const LIMIT: usize = 10;

/// A version beside itself shares all items, so that much may be asked of one.
pub(crate) const KIOSK: &str = r#"
[project]
name = "kiosk"

[items]
id = "properties.drink"

[models.for_you]
kind = "recommend"
signals = { Drunk = 1.0 }
within = "3d"
ranker = false
repeat = false
holdout = 0.1
training = { budget = 0.1 }
rollout = { shadow = "1h", canary = [0.1, 0.5, 1.0], step = "1h", min_answers = 15, guardrails = { agreement = 0.5, latency_p99_ms = 10000 } }
"#;

pub(crate) struct Kiosk {
    pub(crate) project: Arc<ProjectLoop>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) model: ModelName,
    folder: TempDir,
}

impl Kiosk {
    /// A kiosk whose regulars drink what they always do, with a version that answers.
    async fn open() -> Self {
        Self::open_as(KIOSK).await
    }

    /// The same with another project file.
    pub(crate) async fn open_as(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let kiosk = Self {
            project: open(&folder, text, clock.clone(), 1).await,
            clock,
            model: "for_you".parse().unwrap(),
            folder,
        };
        for day in 0..DAYS {
            let now = kiosk.clock.now() + Span::from_days(1);
            kiosk.clock.advance_to(now);
            let thirsty = (0..PEOPLE).filter(|person| (*person as i64 + day) % 5 == 0);
            let drunk = thirsty.map(|person| drunk(person, drink(person, day as u64), now));
            kiosk.append(drunk.collect()).await;
        }
        let models = std::slice::from_ref(&kiosk.model);
        let runs = kiosk.project.train(models, "person", "test").await.unwrap();
        let version = runs[0]
            .version
            .unwrap_or_else(|| panic!("{}", runs[0].summary));
        let reason = "to have answers";
        let promoted = kiosk
            .project
            .promote(&kiosk.model, version, "test", reason, true);
        promoted.await.unwrap();
        kiosk
    }

    /// The process ends, and another goes on.
    async fn reopened(self, text: &str) -> Self {
        let Self {
            project,
            clock,
            model,
            folder,
        } = self;
        drop(project);
        let project = open(&folder, text, clock.clone(), 1).await;
        Self {
            project,
            clock,
            model,
            folder,
        }
    }

    pub(crate) async fn append(&self, events: Vec<Event>) {
        let log = &self.project.stores.log;
        let name = &self.project.project.name;
        log.append(name, events, Vec::new()).await.unwrap();
        self.project.catch_up().await.unwrap();
    }

    fn answering(&self) -> u32 {
        let slot = self.project.recommender(&self.model).unwrap();
        slot.champion().unwrap().number
    }

    /// The champion's package, to be spoilt; what was examined was something else.
    async fn package(&self) -> Value {
        let stores = &self.project.stores;
        let version = self.project.version(&self.model, self.answering()).await;
        let bytes = stores.artifacts.get(&version.unwrap().artifact).await;
        let package = RecommendPackage::from_bytes(&bytes.unwrap()).unwrap();
        let mut package = serde_json::to_value(&package).unwrap();
        package["golden"] = json!([]);
        package
    }

    /// Registers a package as a version that the gate let pass.
    async fn register(&self, package: &Value) -> u32 {
        let package: RecommendPackage = serde_json::from_value(package.clone()).unwrap();
        let stores = &self.project.stores;
        let artifact = stores.artifacts.put(package.to_bytes().unwrap()).await;
        let version = Version {
            project: self.project.project.name.clone(),
            model: self.model.clone(),
            number: 0,
            run: RunId::new(self.clock.now(), [7; 10]),
            created_at: self.clock.now(),
            artifact: artifact.unwrap(),
            passed: true,
            detail: Value::Null,
        };
        stores.catalog.add_version(&version).await.unwrap()
    }

    async fn takes_over(&self, number: u32) {
        let begun = self
            .project
            .let_take_over(&self.model, number, "test", "it passed");
        begun.await.unwrap();
    }

    async fn newest(&self) -> Rollout {
        let (catalog, name) = (&self.project.stores.catalog, &self.project.project.name);
        let newest = catalog.rollouts(name, &self.model, 1).await.unwrap();
        newest.into_iter().next().unwrap()
    }

    /// Whoever asks gets a whole list.
    fn ask(&self, person: u64) -> Recommendation {
        let request = RecommendRequest {
            user: Some(format!("u{person}")),
            limit: Some(LIMIT),
            reasons: true,
            ..RecommendRequest::default()
        };
        let answer = self.project.answerer.recommend(&self.model, &request);
        let (list, _) = answer.expect("there is always an answer");
        assert_eq!(list.items.len(), LIMIT, "{list:?}");
        assert!(list.items.iter().all(|shown| shown.score.is_finite()));
        list
    }

    /// What the loop does between two questions.
    async fn look(&self) {
        self.project.work_in_the_shadow().await.unwrap();
        self.project.advance_rollouts().await.unwrap();
    }

    /// Asks until the rollout has ended; returns after how many questions.
    async fn ask_until_it_ends(&self, called: &str) -> u64 {
        for question in 0..QUESTIONS_MAX {
            self.ask(question * 7 % PEOPLE);
            if question % LOOK_EVERY == 0 {
                self.look().await;
                if !self.newest().await.is_under_way() {
                    return question;
                }
            }
        }
        let status = self.project.rollout_status(&self.model).unwrap();
        let status = serde_json::to_string_pretty(&status).unwrap();
        panic!("{called} is still there: {status}");
    }
}

/// What somebody drinks: any of one kind.
pub(crate) fn drink(person: u64, day: u64) -> String {
    let drawn = (person << 32 | day).wrapping_mul(0xd134_2543_de82_ef95) >> 40;
    format!("kind{}-{}", person % KINDS, drawn % DRINKS_OF_A_KIND)
}

pub(crate) fn drunk(person: u64, drink: String, at: Timestamp) -> Event {
    serde_json::from_value(json!({
        "message_id": format!("{person} {at}"), "kind": "track", "name": "Drunk", "user_id": format!("u{person}"),
        "timestamp": at, "received_at": at, "properties": { "drink": drink }
    }))
    .unwrap()
}

type Spoil = fn(&mut Value);

/// What is done to a package, and what the reason that sends it back begins with.
const PLANTED: [(&str, Spoil, &str); 5] = [
    (
        "it forgot most items",
        |package| {
            let items = package["items"].as_array_mut().unwrap();
            items.truncate(6);
        },
        "guardrail errors",
    ),
    ("its items are mixed up", mix_up, "guardrail agreement"),
    (
        "it says the same to everybody",
        |package| {
            zero(&mut package["fitted"]["weights"]["by_length"]);
        },
        "guardrail agreement",
    ),
    (
        "it panics",
        |package| in_graphs(package, "neighbours"),
        "guardrail errors",
    ),
    (
        "it panics before it says anything",
        |package| in_graphs(package, "starts"),
        "it cannot be loaded",
    ),
];

/// Takes away what the graphs of items have in a field.
fn in_graphs(package: &mut Value, field: &str) {
    let sources = package["fitted"]["sources"].as_array_mut().unwrap();
    let graphs = sources.iter_mut();
    let graphs = graphs.filter_map(|source| source.get_mut("item_graph"));
    graphs.for_each(|graph| graph[field] = json!([]));
}

/// Gives every item the place of another one.
fn mix_up(package: &mut Value) {
    let items = package["items"].as_array_mut().unwrap();
    let before = items.clone();
    let place = |place: usize| before[place * 77 % before.len()].clone();
    *items = (0..before.len()).map(place).collect();
}

/// Makes every number in a value 0.
fn zero(value: &mut Value) {
    match value {
        Value::Number(_) => *value = json!(0.0),
        Value::Array(values) => values.iter_mut().for_each(zero),
        Value::Object(fields) => fields.values_mut().for_each(zero),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_version_recommends_for_long_and_everybody_gets_a_whole_list() {
    let kiosk = Kiosk::open().await;
    let good = kiosk.package().await;
    let number = kiosk.answering();
    for (called, spoil, reason) in PLANTED {
        let mut package = good.clone();
        spoil(&mut package);
        let version = kiosk.register(&package).await;
        kiosk.takes_over(version).await;
        let questions = kiosk.ask_until_it_ends(called).await;
        let ended = kiosk.newest().await;
        assert_eq!(ended.stage, RolloutStage::RolledBack, "{called}: {ended:?}");
        assert_eq!((ended.version, ended.champion), (version, Some(number)));
        assert!(
            ended.reason.starts_with(reason),
            "{called}: {}",
            ended.reason
        );
        println!("{called}: after {questions} questions, {}", ended.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_that_recommends_takes_over_step_by_step_through_restarts() {
    let mut kiosk = Kiosk::open().await;
    let before = kiosk.answering();
    let version = kiosk.register(&kiosk.package().await).await;
    kiosk.takes_over(version).await;
    let (mut had, mut shares) = (HashSet::new(), Vec::new());
    for _ in 0..6 {
        // wherever it is, the process ends and another goes on
        kiosk = kiosk.reopened(KIOSK).await;
        let at = kiosk.newest().await;
        if !at.is_under_way() {
            break;
        }
        shares.push(at.share);
        let (mut challengers, mut control) = (HashSet::new(), 0);
        for person in 0..PEOPLE {
            let list = kiosk.ask(person);
            let decision = kiosk.project.decision(list.decision_id).await;
            let decision = decision.unwrap().unwrap();
            let expected = match decision.arm {
                Some(RolloutArm::Challenger) => {
                    challengers.insert(person);
                    version
                }
                other => {
                    control += usize::from(other == Some(RolloutArm::Control));
                    before
                }
            };
            let is_held_out = decision.fallback == Some(Fallback::Holdout);
            assert_eq!(decision.version, (!is_held_out).then_some(expected));
            assert!(!is_held_out || decision.arm.is_none());
        }
        assert!(challengers.is_superset(&had), "whoever had it keeps it");
        assert!(
            at.share == 1.0 || control.abs_diff(challengers.len()) < 60,
            "{control}"
        );
        had = challengers;
        // too early
        kiosk.look().await;
        assert_eq!(kiosk.newest().await.share, at.share);
        let later = kiosk.clock.now() + Span::from_seconds(3_601);
        kiosk.clock.advance_to(later);
        kiosk.look().await;
    }
    assert_eq!(shares, [0.0, 0.1, 0.5, 1.0]);
    let ended = kiosk.newest().await;
    assert_eq!(ended.stage, RolloutStage::Promoted, "{ended:?}");
    let stages = ended.detail["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 4);
    assert_eq!(
        stages[0]["numbers"]["lists"]["shared"], 1.0,
        "{:#}",
        stages[0]
    );
    assert_eq!(kiosk.answering(), version);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_nothing_is_taken_of_send_a_version_back() {
    // only outcomes can tell: the other guardrails are wide open
    let kiosk = Kiosk::open().await;
    let mut other = kiosk.package().await;
    mix_up(&mut other);
    let version = kiosk.register(&other).await;
    let text = KIOSK.replace("agreement = 0.5", "agreement = 0").replace(
        "canary = [0.1, 0.5, 1.0], step = \"1h\"",
        "canary = [0.5, 1.0], step = \"9d\"",
    );
    let kiosk = kiosk.reopened(&text).await;
    kiosk.takes_over(version).await;
    for day in 0..8 {
        for person in 0..PEOPLE {
            kiosk.ask(person);
        }
        kiosk.look().await;
        let now = kiosk.clock.now() + Span::from_days(1);
        kiosk.clock.advance_to(now);
        let all = (0..PEOPLE).map(|person| drunk(person, drink(person, day), now));
        kiosk.append(all.collect()).await;
        kiosk.look().await;
    }
    let ended = kiosk.newest().await;
    let status = kiosk.project.rollout_status(&kiosk.model).unwrap();
    let status = serde_json::to_string_pretty(&status).unwrap();
    assert_eq!(ended.stage, RolloutStage::RolledBack, "{status}");
    assert!(
        ended.reason.starts_with("guardrail worse"),
        "{}",
        ended.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_that_a_version_that_gives_bad_lists_is_sent_back() {
    // what is worth more is applied to numbers that are none, too
    let text = KIOSK
        .replace("shadow = \"1h\"", "drill = \"7d\", shadow = \"1h\"")
        .replace(
            "holdout = 0.1",
            "boost = \"CASE WHEN item.id = 'kind0-1' THEN 1.5 ELSE 1.0 END\"",
        );
    let kiosk = Kiosk::open_as(&text).await;
    let answering = kiosk.answering();
    let early = kiosk.project.drill_rollback(&kiosk.model, "anna").await;
    let early = early.unwrap_err().to_string();
    assert!(
        early.contains("ask for_you about somebody first"),
        "{early}"
    );
    for person in 0..20 {
        kiosk.ask(person);
    }
    let logged = kiosk.project.decisions.last();
    let drill = kiosk.project.drill_rollback(&kiosk.model, "anna").await;
    let drill = drill.unwrap();
    assert!(drill.passed, "{drill:?}");
    assert_eq!((drill.champion, drill.failed_answers), (answering, 0));
    assert!(drill.questions < 10 && drill.micros > 0, "{drill:?}");
    let reason = drill.reason.clone().unwrap();
    assert!(reason.contains("gave no number"), "{reason}");
    assert_eq!(
        kiosk.project.decisions.last(),
        logged,
        "nobody was answered"
    );
    assert_eq!(
        kiosk.ask(1).version,
        Some(format!("for_you@{answering}")),
        "the champion answers on"
    );
    let audit = kiosk
        .project
        .stores
        .catalog
        .audit_log(&kiosk.project.project.name, 1);
    let entry = audit.await.unwrap().remove(0);
    assert_eq!(
        (entry.action.as_str(), entry.actor.as_str()),
        ("drill rollback passed", "anna")
    );
    let scorecard = kiosk.project.scorecard(&kiosk.model).await.unwrap();
    let scorecard = serde_json::to_value(&scorecard).unwrap().to_string();
    assert!(scorecard.contains(&drill.sentence()), "{scorecard}");
    // by its schedule again, after a week
    kiosk
        .clock
        .advance_to(kiosk.clock.now() + Span::from_days(8));
    kiosk.project.tick().await.unwrap();
    let status = kiosk.project.rollout_status(&kiosk.model).unwrap();
    assert!(status.drill.unwrap().at > drill.at);
}
