//! Datasets: which share of the observations becomes rows, and files of them.

use serde_json::json;
use tidemill_core::Timestamp;
use tidemill_features::FeatureSet;
use tidemill_features::dataset::{Dataset, DatasetRequest, DriftRows, Drop, Export, ExportFormat};
use tidemill_store::LoggedEvent;

use crate::samples::{at, built, event, project};

const DAY: i64 = 86_400;

/// People who order now and then; every fifth comes back soon.
fn events() -> Vec<LoggedEvent> {
    let mut events = Vec::new();
    for day in 0..200 {
        for person in 0..20 {
            let comes = if person % 5 == 0 { 3 } else { 29 };
            if (day + person) % comes == 0 {
                let fields = json!({
                    "name": "Order", "user_id": format!("u{person}"),
                    "properties": { "total": 10.5 + person as f64, "note": "a \"quoted\", text" }
                });
                events.push(event(events.len() as u64 + 1, day * DAY + person, fields));
            }
        }
    }
    events
}

fn dataset(sample: &str, seed: u64, target: &str) -> Dataset {
    let project = project(&format!(
        "[project]\nname = \"shop\"\n\
         [[features.user]]\nname = \"orders\"\naggregate = \"count\"\nevent = \"Order\"\nwindows = [\"30d\"]\n\
         [[features.user]]\nname = \"note\"\naggregate = \"last\"\nevent = \"Order\"\nvalue = \"properties.note\"\ntype = \"category\"\n\
         [models.m]\nkind = \"predict\"\nobserve = {{ event = \"Order\"{sample} }}\ntarget = {{ {target}, within = \"7d\" }}\n\
         training = {{ seed = {seed} }}\n"
    ));
    let set = FeatureSet::compile(&project, &project.features).unwrap();
    let model = project.models.values().next().unwrap();
    let request = DatasetRequest {
        model,
        features: set.select(model).unwrap(),
        from: None,
    };
    let events = events();
    built(&set, &[request], &events, at(300 * DAY), 2, 1 << 30).remove(0)
}

const ORDER: &str = "event = \"Order\"";

/// What sets a row apart from all others.
fn keys(dataset: &Dataset) -> Vec<(String, Timestamp)> {
    let entities = dataset.entities.iter().map(ToString::to_string);
    entities.zip(dataset.moments.iter().copied()).collect()
}

#[test]
fn a_share_of_the_observations_is_taken_the_same_every_time() {
    let all = dataset("", 0, ORDER);
    let half = dataset(", sample = 0.5", 0, ORDER);
    let third = dataset(", sample = 0.3", 0, ORDER);
    assert_eq!(half, dataset(", sample = 0.5", 0, ORDER));
    let (all_keys, half_keys, third_keys) = (keys(&all), keys(&half), keys(&third));
    assert!(half_keys.iter().all(|key| all_keys.contains(key)));
    assert!(third_keys.iter().all(|key| half_keys.contains(key)));
    let share = half.rows() as f64 / all.rows() as f64;
    assert!((0.4..0.6).contains(&share), "{share} of {}", all.rows());
    assert!(half.weights.iter().all(|&weight| weight == 2.0));
    let left_out = (all.rows() - half.rows()) as u64;
    assert_eq!(half.record.dropped[&Drop::Sampled], left_out);
    assert_eq!(half.record.observed, all.record.observed);
    assert_ne!(half_keys, keys(&dataset(", sample = 0.5", 7, ORDER)));
    // the rows that are there are those of the whole
    for (row, key) in half_keys.iter().enumerate() {
        let place = all_keys.iter().position(|other| other == key).unwrap();
        assert_eq!(half.features.row(row), all.features.row(place));
        assert_eq!(half.targets[row], all.targets[place]);
    }
}

#[test]
fn those_who_say_no_can_be_fewer() {
    let all = dataset("", 0, ORDER);
    let few = dataset(", sample = { no = 0.25 }", 0, ORDER);
    let count = |dataset: &Dataset, answer: f64| {
        let answers = dataset.targets.iter();
        answers.filter(|&&target| target == answer).count()
    };
    assert_eq!(count(&few, 1.0), count(&all, 1.0));
    let share = count(&few, 0.0) as f64 / count(&all, 0.0) as f64;
    assert!((0.1..0.4).contains(&share), "{share}");
    for (target, weight) in few.targets.iter().zip(&few.weights) {
        assert_eq!(*weight, if *target == 1.0 { 1.0 } else { 4.0 });
    }
    let (found, real) = (&few.record.target, all.record.target.mean);
    assert!(found.mean > real, "{found:?}");
    let weighted = found.weighted_mean.unwrap();
    assert!((weighted - real).abs() < 0.1, "{weighted} for {real}");
    let dropped: u64 = few.record.dropped.values().sum();
    assert_eq!(few.record.observed, dropped + few.rows() as u64);
}

#[test]
fn the_digest_is_that_of_every_bit() {
    let first = dataset("", 0, ORDER);
    assert_eq!(first.digest(), first.record.digest);
    let mut other = first.clone();
    other.weights[3] = f64::from_bits(other.weights[3].to_bits() + 1);
    assert_ne!(other.digest(), first.digest());
    let back = Dataset::from_batches(&first.to_batches().unwrap(), first.record.clone());
    assert_eq!(back.unwrap().digest(), first.record.digest);
}

#[test]
fn without_rows_there_are_columns() {
    let none = dataset(", where = \"properties.total > 1e9\"", 0, ORDER);
    assert_eq!((none.rows(), none.record.rows), (0, 0));
    let batches = none.to_batches().unwrap();
    assert_eq!((batches.len(), batches[0].num_columns()), (1, 7));
    assert_eq!(csv(&none).lines().count(), 1);
}

fn csv(dataset: &Dataset) -> String {
    let mut export = Export::new(ExportFormat::Csv, &dataset.record);
    let mut bytes = Vec::new();
    for batch in dataset.to_batches().unwrap() {
        bytes.extend(export.push(&batch).unwrap());
    }
    bytes.extend(export.finish().unwrap());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_text_file_has_every_value() {
    let dataset = dataset("", 0, "next = [\"Order\"]");
    let text = csv(&dataset);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "entity,moment,offset,target,target_class,weight,user.orders_30d,user.note"
    );
    assert_eq!(lines.clone().count(), dataset.rows());
    let classes = dataset.record.classes.as_ref().unwrap();
    let first = lines.next().unwrap();
    let expected = format!(
        "{},{},{},{:?},{},1.0,{:?},\"a \"\"quoted\"\", text\"",
        dataset.entities[0],
        dataset.moments[0],
        dataset.offsets[0].0,
        dataset.targets[0],
        classes[dataset.targets[0] as usize],
        dataset.features.value(0, 0).as_number(),
    );
    assert_eq!(first, expected);
}

#[test]
fn what_differs_between_two_datasets_is_measured() {
    let rows = |dataset: &Dataset| {
        let mut rows = DriftRows::new(dataset.record.clone());
        for batch in dataset.to_batches().unwrap() {
            rows.push(&batch).unwrap();
        }
        rows
    };
    let (all, few) = (
        dataset("", 0, ORDER),
        dataset(", sample = { no = 0.1 }", 0, ORDER),
    );
    let same = rows(&all).diff(rows(&all)).unwrap();
    assert_eq!(same.features.len(), 2);
    assert!(
        same.features.iter().all(|feature| feature.psi == 0.0),
        "{same:?}"
    );
    let diff = rows(&all).diff(rows(&few)).unwrap();
    assert_eq!(
        (diff.rows.a, diff.rows.b),
        (all.record.rows, few.record.rows)
    );
    // those who come back have more orders, and they are more of the rows now
    let orders = &diff.features[0];
    assert_eq!(orders.name, "user.orders_30d");
    assert!(orders.psi > 0.1 && orders.ks.unwrap() > 0.1, "{orders:?}");
    let mut short = DriftRows::new(all.record.clone());
    short
        .push(&all.to_batches().unwrap()[0].slice(0, 3))
        .unwrap();
    assert!(short.diff(rows(&all)).is_err());
}
