//! Versions that were spoilt on purpose: what is wrong with each, and how it comes about. The gate and the rollout must both stop
//! them, whatever the other says.

use serde_json::{Value, json};

/// Spoils a package, as it is written into an artifact.
pub(crate) type Spoil = fn(&mut Value);

/// Versions that can be loaded and must not answer.
pub(crate) const PLANTED: [(&str, Spoil); 11] = [
    ("it panics", |package| {
        // a map that falls is refused where it is applied
        package["calibrator"] =
            json!({ "kind": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.9, 0.1] });
    }),
    ("it gives no numbers", |package| {
        weights(package, |place, _| [1.7e308, -1.7e308][place % 2]);
    }),
    ("it says the same about everybody", |package| {
        package["fitted"] = package["baselines"][0]["fitted"].clone();
    }),
    ("its labels were inverted", |package| {
        package["calibrator"] = json!({ "kind": "platt", "slope": -1.0, "intercept": 0.0 });
    }),
    ("it says yes to nearly everybody", |package| {
        package["calibrator"] = json!({ "kind": "platt", "slope": 1.0, "intercept": 4.0 });
    }),
    ("it says no to nearly everybody", |package| {
        package["calibrator"] = json!({ "kind": "platt", "slope": 1.0, "intercept": -4.0 });
    }),
    ("it is far too sure", |package| {
        package["calibrator"] = json!({ "kind": "platt", "slope": 30.0, "intercept": 0.0 });
    }),
    ("it dares to say nothing", |package| {
        package["calibrator"] = json!({ "kind": "platt", "slope": 0.02, "intercept": 0.0 });
    }),
    ("it was trained on inverted features", |package| {
        weights(package, |_, weight| -weight);
    }),
    ("its weights overflow", |package| {
        weights(package, |_, weight| weight * 1e6);
    }),
    ("all weights are in the wrong place", |package| {
        let output = linear(package);
        output["coefficients"].as_array_mut().unwrap().reverse();
        output["intercept"] = json!(3.0);
    }),
];

/// Versions that cannot even be loaded.
pub(crate) const UNREADABLE: [(&str, Spoil); 6] = [
    ("a feature that there is not", |package| {
        package["columns"][0]["name"] = json!("user.astrology");
        package["fitted"] = package["baselines"][0]["fitted"].clone();
    }),
    ("fewer features than it was fitted on", |package| {
        package["columns"].as_array_mut().unwrap().pop();
    }),
    ("features in another order", |package| {
        package["columns"].as_array_mut().unwrap().reverse();
    }),
    ("another question", |package| {
        package["task"] = json!({ "multiclass": { "classes": ["a", "b"] } });
    }),
    ("a newer format", |package| package["format"] = json!(9)),
    ("answers that are not those of its trainer", |package| {
        let columns = package["columns"].as_array().unwrap().len();
        let features = vec![json!(null); columns];
        package["golden"] = json!([{ "features": features, "scores": [0.123] }]);
    }),
];

/// Lets the regression answer, which is one of the rules beside the trees where it does not already; returns its weights.
fn linear(package: &mut Value) -> &mut Value {
    if package["fitted"]["kind"] != "linear" {
        let baselines = package["baselines"].as_array().unwrap();
        let linear = baselines.iter().find(|one| one["name"] == "linear");
        package["fitted"] = linear.unwrap()["fitted"].clone();
    }
    package["calibrator"] = json!({ "kind": "none" });
    &mut package["fitted"]["outputs"][0]
}

/// Changes all weights of the regression, by their place.
fn weights(package: &mut Value, change: impl Fn(usize, f64) -> f64) {
    let output = linear(package);
    let coefficients = output["coefficients"].as_array_mut().unwrap();
    for (place, coefficient) in coefficients.iter_mut().enumerate() {
        *coefficient = json!(change(place, coefficient.as_f64().unwrap()));
    }
}
