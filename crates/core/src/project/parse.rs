//! From the text of a project file to a [`Project`], or to everything that is wrong with it.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::alerts::read_alerts;
use super::expectations::read_expectations;
use super::features::{Declared, read_features};
use super::gate::read_gate;
use super::problem::{Problem, ProjectError, did_you_mean};
use super::reader::{Entry, Source as Text, Table};
use super::recommend::{RecommendModel, read_recommend};
use super::rollout::{Answers, read_rollout};
use super::{
    GateRules, ItemDeclaration, Located, Observe, PredictModel, Project, ProjectLimits,
    PropertyRule, Retrain, Sample, Source, SourceFormat, Target, Training,
};
use crate::event::Field;
use crate::id::{ModelName, ProjectName};
use crate::time::Span;

/// The fewest rows with a known target that are worth learning from, unless the file says otherwise.
const MIN_ROWS_DEFAULT: u64 = 200;

impl Project {
    /// Reads a project file.
    ///
    /// # Errors
    /// Every problem of the file, each with its line.
    pub fn parse(text: &str) -> Result<Self, ProjectError> {
        if text.len() > ProjectLimits::FILE_BYTES_MAX {
            let message = format!(
                "the file is larger than {} bytes",
                ProjectLimits::FILE_BYTES_MAX
            );
            return Err(ProjectError {
                problems: vec![Problem {
                    line: 1,
                    place: String::new(),
                    message,
                    hint: None,
                }],
            });
        }
        let source = Text::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in errors {
                let line = error.span().map_or(1, |span| source.line(&span));
                source.problem(
                    line,
                    "",
                    format!("not readable as TOML: {}", error.message()),
                    None,
                );
            }
            return Err(ProjectError {
                problems: source.into_problems(),
            });
        }
        let project = read_project(&source, Table::root(&source, &root), text);
        ProjectError::check(source.into_problems())?;
        // a missing part without a problem would be a bug of the reader, so say so rather than panic
        project.ok_or_else(|| ProjectError {
            problems: vec![Problem {
                line: 1,
                place: String::new(),
                message: "the file could not be read".to_owned(),
                hint: None,
            }],
        })
    }
}

fn read_project(source: &Text<'_>, mut root: Table<'_, '_>, text: &str) -> Option<Project> {
    let mut name = None;
    let mut currency = None;
    let mut value = None;
    let mut session_gap = ProjectLimits::SESSION_GAP;
    let mut forget_after = None;
    if let Some(mut table) = root
        .require("project", "{ name = \"shop\" }")
        .and_then(|entry| entry.table())
    {
        name = table
            .require("name", "\"shop\"")
            .and_then(|entry| entry.parsed::<ProjectName>());
        currency = table
            .get("currency")
            .and_then(|entry| read_currency(&entry));
        value = table.get("value").and_then(|entry| read_sum(&entry));
        if let Some(gap) = table.get("session_gap").and_then(|entry| entry.span()) {
            session_gap = gap;
        }
        forget_after = table
            .get("forget_after")
            .and_then(|entry| read_forget_after(&entry));
        table.finish();
    }
    let items = root
        .get("items")
        .and_then(|entry| entry.table())
        .and_then(read_items);
    let events = named(root.get("events"), |_, entry| {
        read_event(&entry.table()?.closed())
    });
    let expectations = named(root.get("events"), |_, entry| {
        let expect = entry.table()?.get("expect")?;
        read_expectations(expect.table()?)
    });
    let sources = named(root.get("sources"), |_, entry| read_source(entry.table()?));
    let features = root
        .get("features")
        .map(|entry| {
            let items = items.as_ref();
            read_features(
                &entry,
                Declared {
                    events: &events,
                    items,
                },
            )
        })
        .unwrap_or_default();
    let (models, recommenders) = read_models(source, root.get("models"), items.is_some());
    let alerts = root.get("alerts").and_then(|entry| entry.table());
    let alerts = alerts.map(read_alerts).unwrap_or_default();
    root.finish();
    Some(Project {
        name: name?,
        currency,
        value,
        session_gap,
        forget_after,
        items,
        events,
        expectations,
        sources,
        features,
        models,
        recommenders,
        alerts,
        text: text.to_owned(),
    })
}

/// Reads each entry of a table whose keys are names.
pub(super) fn named<'s, 't, T>(
    entry: Option<Entry<'s, 't>>,
    read: impl Fn(&str, &Entry<'s, 't>) -> Option<T>,
) -> BTreeMap<String, T> {
    let Some(table) = entry.and_then(|entry| entry.table()) else {
        return BTreeMap::new();
    };
    table
        .entries()
        .into_iter()
        .filter_map(|(name, entry)| Some((name.clone(), read(&name, &entry)?)))
        .collect()
}

fn read_currency(entry: &Entry<'_, '_>) -> Option<String> {
    let currency = entry.string()?;
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Some(currency);
    }
    entry.problem(
        format!("'{currency}' is not a currency"),
        Some("three letters, like EUR".to_owned()),
    );
    None
}

fn read_forget_after(entry: &Entry<'_, '_>) -> Option<Span> {
    let after = entry.span()?;
    if after < ProjectLimits::FORGET_AFTER_MIN {
        let hint = format!("at least {}", ProjectLimits::FORGET_AFTER_MIN);
        entry.problem(format!("{after} is too short"), Some(hint));
        return None;
    }
    Some(after)
}

fn read_items(mut table: Table<'_, '_>) -> Option<ItemDeclaration> {
    let id = table
        .require("id", "\"properties.item\"")
        .and_then(|entry| entry.parsed());
    let attributes = named(table.get("attributes"), |_, entry| entry.parsed());
    table.finish();
    Some(ItemDeclaration {
        id: id?,
        attributes,
    })
}

fn read_event(properties: &EventTable<'_, '_>) -> Option<BTreeMap<String, PropertyRule>> {
    Some(named(properties.0.clone(), |_, entry| entry.parsed()))
}

/// The `properties` of an event's table, after its other keys were refused.
struct EventTable<'s, 't>(Option<Entry<'s, 't>>);

impl<'s, 't> Table<'s, 't> {
    fn closed(mut self) -> EventTable<'s, 't> {
        let properties = self.get("properties");
        self.get("expect"); // it is read on its own
        self.finish();
        EventTable(properties)
    }
}

fn read_source(mut table: Table<'_, '_>) -> Option<Source> {
    let path = table.get("path").and_then(|entry| entry.string());
    let format = table
        .get("format")
        .and_then(|entry| match entry.string()?.as_str() {
            "csv" => Some(SourceFormat::Csv),
            "jsonl" => Some(SourceFormat::Jsonl),
            "parquet" => Some(SourceFormat::Parquet),
            other => {
                entry.problem(
                    format!("'{other}' is not a format"),
                    Some("csv, jsonl or parquet".to_owned()),
                );
                None
            }
        });
    let event = table.get("event").and_then(|entry| entry.string());
    let map = named(table.get("map"), |target, entry| {
        let known = ["timestamp", "received_at", "message_id"];
        if !known.contains(&target) && target.parse::<Field>().is_err() {
            let fields = [
                "user_id",
                "anonymous_id",
                "group_id",
                "name",
                "properties.…",
            ];
            let hint = did_you_mean(target, known.into_iter().chain(fields));
            entry.problem(format!("'{target}' is not a field of an event"), hint);
        }
        entry.string()
    });
    table.finish();
    Some(Source {
        path,
        format,
        event,
        map,
    })
}

fn read_models(
    source: &Text<'_>,
    entry: Option<Entry<'_, '_>>,
    has_items: bool,
) -> (
    BTreeMap<ModelName, PredictModel>,
    BTreeMap<ModelName, RecommendModel>,
) {
    let (mut models, mut recommenders) = (BTreeMap::new(), BTreeMap::new());
    let Some(table) = entry.and_then(|entry| entry.table()) else {
        return (models, recommenders);
    };
    for (name, entry) in table.entries() {
        let parsed = name.parse::<ModelName>();
        if let Err(error) = &parsed {
            source.problem(entry.line, &entry.place, error, None);
        }
        let table = entry.table();
        let (Ok(name), Some(mut table)) = (parsed, table) else {
            continue;
        };
        match read_kind(&mut table) {
            Some(Kind::Predict) => {
                models.extend(read_model(name.clone(), table).map(|model| (name, model)));
            }
            Some(Kind::Recommend) => {
                let model = read_recommend(name.clone(), table, has_items);
                recommenders.extend(model.map(|model| (name, model)));
            }
            None => {}
        }
    }
    if models.len() + recommenders.len() > ProjectLimits::MODELS_MAX {
        table.problem(
            format!("more than {} models", ProjectLimits::MODELS_MAX),
            None,
        );
    }
    (models, recommenders)
}

/// The kinds of models that are built.
enum Kind {
    Predict,
    Recommend,
}

const KINDS: [&str; 2] = ["predict", "recommend"];
/// Kinds that the design names and this version does not build yet.
const LATER_KINDS: [&str; 3] = ["optimise", "score", "external"];

fn read_kind(table: &mut Table<'_, '_>) -> Option<Kind> {
    let kind = table.require("kind", "\"predict\"")?;
    let built = || Some("this version builds kind = \"predict\" and \"recommend\"".to_owned());
    match kind.string()?.as_str() {
        "predict" => return Some(Kind::Predict),
        "recommend" => return Some(Kind::Recommend),
        later if LATER_KINDS.contains(&later) => {
            kind.problem(
                format!("models of kind '{later}' are not built yet"),
                built(),
            );
        }
        other => {
            let hint = did_you_mean(other, LATER_KINDS.into_iter().chain(KINDS)).or_else(built);
            kind.problem(format!("'{other}' is not a kind of model"), hint);
        }
    }
    None
}

fn read_model(name: ModelName, mut table: Table<'_, '_>) -> Option<PredictModel> {
    let line = table.line;
    let question = table.get("question").and_then(|entry| entry.string());
    if let Some(entry) = table.get("entity")
        && entry.string().is_some_and(|entity| entity != "user")
    {
        entry.problem("this version predicts for entity = \"user\" only", None);
    }
    let observe = table.require("observe", "{ event = \"Order Completed\" }");
    let sample = observe.as_ref().and_then(read_sample);
    let observe = observe.and_then(|entry| Some((entry.clone(), read_observe(entry.table()?)?)));
    let target = table
        .require(
            "target",
            "{ event = \"Order Completed\", within = \"30d\" }",
        )
        .and_then(|entry| read_target(entry.table()?));
    let features = match table.get("features") {
        Some(entry) => entry.located_list(),
        None => vec![Located {
            text: "*".to_owned(),
            line,
        }],
    };
    let metric = table.get("metric").and_then(|entry| entry.located());
    let holdout = read_holdout(&mut table);
    let (retrain, gate, training) = read_cycle(&mut table);
    let rollout = read_rollout(&mut table, Answers::Scores);
    table.finish();
    let ((observed, observe), target) = (observe?, target?);
    if matches!(sample, Some(Sample::ByAnswer { .. }))
        && !matches!(target, Target::Event { .. } | Target::NoEvent { .. })
    {
        let hint = Some("sample = 0.1 takes the same share of all".to_owned());
        observed.problem("only yes/no questions are sampled by their answer", hint);
    }
    Some(PredictModel {
        name,
        question,
        observe,
        sample,
        target,
        features,
        metric,
        holdout,
        retrain,
        gate,
        rollout,
        training,
        line,
    })
}

/// `observe = { …, sample = 0.1 }` or `sample = { yes = 1.0, no = 0.1 }`.
fn read_sample(observe: &Entry<'_, '_>) -> Option<Sample> {
    // what is no table is reported where the rest of it is read
    if !observe.is_table() {
        return None;
    }
    let sample = observe.table()?.get("sample")?;
    if !sample.is_table() {
        return sample.share().map(Sample::Share);
    }
    let mut table = sample.table()?;
    let mut share = |answer: &'static str| match table.get(answer) {
        Some(entry) => entry.share(),
        None => Some(1.0),
    };
    let (yes, no) = (share("yes"), share("no"));
    table.finish();
    Some(Sample::ByAnswer { yes: yes?, no: no? })
}

fn read_observe(mut table: Table<'_, '_>) -> Option<Observe> {
    // read by `read_sample`
    let _ = table.get("sample");
    let event = table.get("event");
    let every = table.get("every");
    let observe = match (event, every) {
        (Some(event), None) => {
            let condition = table.get("where").and_then(|entry| entry.located());
            event
                .string()
                .map(|event| Observe::Event { event, condition })
        }
        (None, Some(every)) => {
            let active_within = table
                .require("active_within", "\"30d\"")
                .and_then(|entry| entry.span());
            every
                .span()
                .zip(active_within)
                .map(|(period, active_within)| Observe::Every {
                    period,
                    active_within,
                })
        }
        _ => {
            let hint =
                "{ event = \"Order Completed\" } or { every = \"1d\", active_within = \"30d\" }";
            table.problem("say when the question is asked", Some(hint.to_owned()));
            None
        }
    };
    table.finish();
    observe
}

fn read_target(mut table: Table<'_, '_>) -> Option<Target> {
    let event = table.get("event");
    let no_event = table.get("no_event");
    let sum = table.get("sum");
    let next = table.get("next");
    let within = table
        .require("within", "\"30d\"")
        .and_then(|entry| entry.span());
    let target = match (event, no_event, sum, next) {
        (Some(entry), None, None, None) => entry
            .string()
            .zip(within)
            .map(|(event, within)| Target::Event { event, within }),
        (None, Some(entry), None, None) => entry
            .string()
            .zip(within)
            .map(|(event, within)| Target::NoEvent { event, within }),
        (None, None, Some(entry), None) => {
            read_sum(&entry)
                .zip(within)
                .map(|((event, value), within)| Target::Sum {
                    event,
                    value,
                    within,
                })
        }
        (None, None, None, Some(entry)) => {
            let events: Vec<String> = entry
                .array()
                .unwrap_or_default()
                .iter()
                .filter_map(Entry::string)
                .collect();
            if events.is_empty() {
                entry.problem("name at least one event", None);
            }
            (!events.is_empty())
                .then_some(events)
                .zip(within)
                .map(|(events, within)| Target::Next { events, within })
        }
        _ => {
            let hint = "one of { event = … }, { no_event = … }, { sum = \"EVENT.properties.NAME\" }, { next = [ … ] }, \
                        each with within = \"30d\"";
            table.problem("say what is to be predicted", Some(hint.to_owned()));
            None
        }
    };
    table.finish();
    target
}

/// `Order Completed.properties.total`: an event and a field of it.
fn read_sum(entry: &Entry<'_, '_>) -> Option<(String, Field)> {
    let text = entry.string()?;
    let parts = text
        .find(".properties.")
        .map(|dot| (text[..dot].to_owned(), text[dot + 1..].parse::<Field>()));
    match parts {
        Some((event, Ok(field))) if !event.is_empty() => Some((event, field)),
        _ => {
            let hint = Some("write it like \"Order Completed.properties.total\"".to_owned());
            entry.problem(
                format!("'{text}' does not name a property of an event"),
                hint,
            );
            None
        }
    }
}

/// The share of the people who never get a model's answers.
pub(super) fn read_holdout(table: &mut Table<'_, '_>) -> f64 {
    const HOLDOUT_MAX: f64 = 0.5;
    let Some(entry) = table.get("holdout") else {
        return 0.0;
    };
    match entry.number() {
        Some(share) if (0.0..=HOLDOUT_MAX).contains(&share) => share,
        Some(share) => {
            let hint = "0.05 keeps one in twenty as they are".to_owned();
            entry.problem(
                format!("{share} is not a share from 0 to {HOLDOUT_MAX}"),
                Some(hint),
            );
            0.0
        }
        None => 0.0,
    }
}

/// When a model is trained again, what a challenger must reach, and how it is fitted: what models of all kinds say.
pub(super) fn read_cycle(table: &mut Table<'_, '_>) -> (Retrain, GateRules, Training) {
    let retrain = match table.get("retrain").and_then(|entry| entry.table()) {
        Some(table) => read_retrain(table),
        None => Retrain::default(),
    };
    let gate = table
        .get("gate")
        .and_then(|entry| entry.table())
        .map_or_else(GateRules::default, read_gate);
    let training = table
        .get("training")
        .and_then(|entry| entry.table())
        .map_or_else(Training::default, read_training);
    (retrain, gate, training)
}

fn read_retrain(mut table: Table<'_, '_>) -> Retrain {
    let every = table.get("every").and_then(|entry| entry.span());
    let min_new_targets = table
        .get("min_new_targets")
        .and_then(|entry| entry.integer_within(1, i64::MAX))
        .and_then(|number| u64::try_from(number).ok());
    if every.is_none() && min_new_targets.is_none() {
        table.problem(
            "say when to train again",
            Some("{ every = \"1d\", min_new_targets = 200 }".to_owned()),
        );
    }
    let default = Retrain::default();
    let mut whether = |key: &'static str, default: bool| {
        let entry = table.get(key);
        entry.map_or(Some(default), |entry| entry.truth())
    };
    let on_quality = whether("on_quality", default.on_quality);
    let on_drift = whether("on_drift", default.on_drift);
    table.finish();
    Retrain {
        every,
        min_new_targets,
        on_quality: on_quality.unwrap_or(default.on_quality),
        on_drift: on_drift.unwrap_or(default.on_drift),
    }
}

impl Default for Training {
    fn default() -> Self {
        Self {
            budget: None,
            history: None,
            seed: 0,
            min_rows: MIN_ROWS_DEFAULT,
        }
    }
}

fn read_training(mut table: Table<'_, '_>) -> Training {
    let default = Training::default();
    let budget = table.get("budget").and_then(|entry| {
        let budget = entry.number()?;
        if !(0.1..=2.0).contains(&budget) {
            entry.problem(
                format!("{budget} is out of range: from 0.1 (quick) to 2.0 (thorough)"),
                None,
            );
        }
        Some(budget)
    });
    let history = table.get("history").and_then(|entry| entry.span());
    let whole = |entry: Option<Entry<'_, '_>>, min: i64, default: u64| {
        entry
            .and_then(|entry| entry.integer_within(min, i64::MAX))
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(default)
    };
    let seed = whole(table.get("seed"), 0, default.seed);
    let min_rows = whole(table.get("min_rows"), 10, default.min_rows);
    table.finish();
    Training {
        budget,
        history,
        seed,
        min_rows,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::feature::FeatureType;
    use crate::project::{EntityKind, Formula, Operation};

    const FIRST: &str = r#"
[project]
name = "shop"

[models.will_return]
kind    = "predict"
entity  = "user"
observe = { event = "Order Completed" }
target  = { event = "Order Completed", within = "30d" }
"#;

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&Project::parse(text).unwrap_err().to_string());
    }

    #[test]
    fn a_first_file_is_short() {
        let project = Project::parse(FIRST).unwrap();
        let model = &project.models[&"will_return".parse().unwrap()];
        assert_eq!(
            model.target,
            Target::Event {
                event: "Order Completed".into(),
                within: Span::from_days(30)
            }
        );
        assert_eq!(model.features[0].text, "*");
        assert_eq!(model.training.min_rows, MIN_ROWS_DEFAULT);
    }

    #[test]
    fn a_grown_file_is_read() {
        let text = r#"
            [project]
            name = "tools-platform"
            currency = "EUR"
            [items]
            id = "properties.tool"
            attributes = { category = "string", price = "float?" }
            [events."Tool Opened"]
            properties = { tool = "string", seconds = "float? >= 0", plan = "'free' | 'pro'" }
            [sources.history]
            path  = "history/*.parquet"
            event = "Tool Opened"
            map   = { user_id = "uid", timestamp = "ts", "properties.tool" = "tool" }
            [[features.user]]
            name = "opens"
            aggregate = "count"
            event = "Tool Opened"
            where = "properties.seconds > 5"
            windows = ["30d", "1d"]
            [[features.user]]
            name = "plan"
            aggregate = "last"
            event = "Tool Opened"
            value = "properties.plan"
            [[features.user]]
            name = "pace"
            expression = "opens_30d / 30.0"
            [[features.country]]
            name = "opens"
            aggregate = "decayed"
            half_life = "7d"
            [models.churn]
            kind = "predict"
            observe = { every = "1d", active_within = "30d" }
            target = { no_event = "*", within = "30d" }
            features = ["user.*"]
            metric = "auc"
            retrain = { every = "1d", min_new_targets = 200 }
            gate = { min = { auc = 0.65 }, slices = ["user.plan"] }
            training = { budget = 0.5, history = "365d", seed = 7, min_rows = 500 }
        "#;
        let project = Project::parse(text).unwrap();
        assert_eq!(project.features.len(), 4);
        let Formula::Aggregate(opens) = &project.features[0].formula else {
            panic!("an aggregate")
        };
        assert_eq!(opens.windows, [Span::from_days(1), Span::from_days(30)]);
        let Formula::Aggregate(plan) = &project.features[1].formula else {
            panic!("an aggregate")
        };
        assert_eq!(plan.operation, Operation::Last(FeatureType::Category));
        assert_eq!(
            project.features[3].entity,
            EntityKind::Property("country".into())
        );
    }

    #[test]
    fn observations_are_sampled_by_share_or_by_answer() {
        let sampled = |sample: &str, target: &str| {
            Project::parse(&format!(
                "[project]\nname = \"shop\"\n[models.m]\nkind = \"predict\"\n\
                 observe = {{ event = \"A\"{sample} }}\ntarget = {{ {target}, within = \"30d\" }}\n"
            ))
        };
        let event = "event = \"A\"";
        let sample = |sample: &str| {
            let project = sampled(sample, event).unwrap();
            project.models.values().next().unwrap().sample
        };
        assert_eq!(sample(""), None);
        assert_eq!(sample(", sample = 0.1"), Some(Sample::Share(0.1)));
        assert_eq!(
            sample(", sample = { no = 0.1 }"),
            Some(Sample::ByAnswer { yes: 1.0, no: 0.1 })
        );
        for (wrong, target, expected) in [
            (", sample = 0", event, "0 is not above 0 and at most 1"),
            (", sample = { no = 1.5 }", event, "1.5 is not above 0"),
            (", sample = { none = 0.5 }", event, "did you mean 'no'?"),
            (", sample = \"all\"", event, "expected a number"),
            (
                ", sample = { no = 0.1 }",
                "next = [\"A\"]",
                "only yes/no questions are sampled by their answer",
            ),
        ] {
            let error = sampled(wrong, target).unwrap_err().to_string();
            assert!(error.contains(expected), "{wrong}: {error}");
            assert_eq!(error.lines().count(), 1, "{wrong}: {error}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_with_lines_and_hints() {
        check(
            r#"
[project]
nam = "shop"

[models.Will_Return]
kind = "predict"

[models.churn]
kind = "predikt"

[models.spend]
kind = "predict"
observe = { event = "Order Completed", every = "1d" }
target = { sum = "Order Completed.total", within = "30" }
retrain = { evry = "1d" }

[[features.user]]
name = "Orders"
aggregate = "cuont"

[[features.user]]
name = "spent"
aggregate = "sum"
windows = ["1x"]

[events."Order Completed"]
properties = { total = "number" }
"#,
            expect![[r#"
                line 2, project: 'name' is missing (for example name = "shop")
                line 3, project: unknown key 'nam' (did you mean 'name'?)
                line 5, models.Will_Return: 'Will_Return' is not a name: use 1 to 64 lower-case letters, digits, '-' and '_', starting with a letter or digit
                line 9, models.churn.kind: 'predikt' is not a kind of model (did you mean 'predict'?)
                line 13, models.spend.observe: say when the question is asked ({ event = "Order Completed" } or { every = "1d", active_within = "30d" })
                line 14, models.spend.target.sum: 'Order Completed.total' does not name a property of an event (write it like "Order Completed.properties.total")
                line 14, models.spend.target.within: '30' is not a length of time: write a whole number and a unit, like 90s, 5m, 1h, 30d or 2w
                line 15, models.spend.retrain: say when to train again ({ every = "1d", min_new_targets = 200 })
                line 15, models.spend.retrain: unknown key 'evry' (did you mean 'every'?)
                line 18, features.user.name: 'Orders' is not a name of a feature (lower-case letters, digits and '_', starting with a letter)
                line 19, features.user.aggregate: 'cuont' is not an aggregate (did you mean 'count'?)
                line 21, features.user: 'sum' needs a value (for example value = "properties.total")
                line 24, features.user.windows: '1x' is not a length of time: write a whole number and a unit, like 90s, 5m, 1h, 30d or 2w
                line 27, events.Order Completed.properties.total: 'number' is not a type: use string, text, float, int, bool, timestamp or 'a' | 'b'"#]],
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        check(
            "[project]\nname = \"shop\n",
            expect![[r#"
                line 2: not readable as TOML: invalid basic string, expected `"`"#]],
        );
    }

    #[test]
    fn kinds_of_later_versions_are_refused_clearly() {
        check(
            "[project]\nname = \"shop\"\n[models.headline]\nkind = \"optimise\"\n",
            expect![[r#"
                line 4, models.headline.kind: models of kind 'optimise' are not built yet (this version builds kind = "predict" and "recommend")"#]],
        );
    }
}
