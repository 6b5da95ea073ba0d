//! How a model that recommends is learnt: as its part of the project file says.

use tidemill_core::project::{Problem, ProjectError, RecommendModel, did_you_mean};
use tidemill_learn::recommend::{Pinned, PopularIn, Question, Recommender, SourceParameters};

use super::weights_of;

/// From this budget on, all sources are tried and their parameters searched for.
const THOROUGH_FROM: f64 = 0.5;

/// How a model is learnt.
///
/// # Errors
/// When the project file pins a source that there is not.
pub fn recommender_of(model: &RecommendModel) -> Result<Recommender, ProjectError> {
    let thorough = model.training.budget.unwrap_or(THOROUGH_FROM) >= THOROUGH_FROM;
    let recommender = match thorough {
        true => Recommender::new(Question::Later),
        false => Recommender::quick(Question::Later),
    };
    let recommender = Recommender {
        goal: weights_of(model).into_iter().fold(0.0, f32::max),
        seed: model.training.seed,
        exclude_seen: model.repeat.map(|repeat| !repeat),
        ..recommender
    };
    let named = model.sources.as_deref();
    let pinned = Pinned {
        sources: named.map(|named| {
            named
                .iter()
                .map(|source| source.name.text.as_str())
                .collect()
        }),
        weights: named.and_then(|named| named.iter().map(|source| source.weight).collect()),
        ranker: model.ranker,
    };
    let offered = recommender.offered();
    let place_of = |name: &str| {
        let mut named = named.into_iter().flatten();
        let place = named.find(|source| source.name.text == name);
        place.map_or(model.line, |source| source.name.line)
    };
    let refused = |name: &str, message: String, hint: Option<String>| ProjectError {
        problems: vec![Problem {
            line: place_of(name),
            place: format!("models.{}.sources", model.name),
            message,
            hint,
        }],
    };
    let by_segment = PopularIn::default().name;
    let names_it = |names: &Vec<&str>| names.contains(&by_segment.as_str());
    if model.segment.is_none() && pinned.sources.as_ref().is_some_and(names_it) {
        let message = format!("'{by_segment}' needs to know what people are divided by");
        let hint = "say segment = \"user.country\", or another text".to_owned();
        return Err(refused(&by_segment, message, Some(hint)));
    }
    recommender.pinned(&pinned).map_err(|unknown| {
        let names = || offered.iter().map(SourceParameters::name);
        let known = || {
            format!(
                "there are {}",
                names()
                    .map(|name| format!("'{name}'"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        };
        let hint = did_you_mean(&unknown.name, names()).or_else(|| Some(known()));
        refused(&unknown.name, unknown.to_string(), hint)
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tidemill_core::project::Project;

    use super::*;

    fn check(pins: &str, expected: Expect) {
        let text = format!(
            "[project]\nname = \"shop\"\n[items]\nid = \"properties.product\"\n[models.for_you]\nkind = \"recommend\"\nsignals = {{ Buy = 2.0 }}\n{pins}"
        );
        let project = Project::parse(&text).unwrap();
        let learnt = recommender_of(project.recommenders.values().next().unwrap());
        let said = match learnt {
            Ok(learnt) => format!(
                "{:?} {:?} {}",
                learnt
                    .sources
                    .iter()
                    .map(SourceParameters::name)
                    .collect::<Vec<_>>(),
                learnt.blend.fixed,
                learnt.ranker.is_some()
            ),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn a_project_file_pins_sources_weights_and_the_ranker() {
        check(
            "sources = [\"trending\", \"goes with\"]",
            expect![[r#"["trending", "goes with"] None true"#]],
        );
        check(
            "sources = { popular = 1.5 }\nranker = false\ntraining = { budget = 0.2 }",
            expect![[r#"["popular"] Some([1.5]) false"#]],
        );
        check(
            "sources = [\"popular\", \"goes wth\"]",
            expect![
                "line 8, models.for_you.sources: there is no source 'goes wth' (did you mean 'goes with'?)"
            ],
        );
        check(
            "sources = [\"popular in segment\"]",
            expect![[
                r#"line 8, models.for_you.sources: 'popular in segment' needs to know what people are divided by (say segment = "user.country", or another text)"#
            ]],
        );
        check(
            "segment = \"user.country\"\nsources = [\"popular in segment\"]",
            expect![[r#"["popular in segment"] None true"#]],
        );
        check(
            "sources = [\n  \"popular\",\n  \"xyz\"]",
            expect![
                "line 10, models.for_you.sources: there is no source 'xyz' (there are 'goes with', 'goes with, linear', 'comes after', 'comes next', 'session neighbours', 'spectral', 'spectral, coarse', 'embeddings', 'embeddings, one direction', 'popular', 'popular in segment', 'repeats', 'content', 'trending', 'newest')"
            ],
        );
    }
}
