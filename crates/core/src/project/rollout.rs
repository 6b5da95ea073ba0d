//! Reads how a new version takes over from the one that answers.

use super::reader::{Entry, Table};
use crate::time::Span;

/// How a version that passed the gate takes over: first beside the one that answers, then for a growing share of the people.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRules {
    /// How long it answers beside the champion without being heard, at least.
    pub shadow: Span,
    /// The shares of the people that get its answers one after the other, growing, above 0 and at most 1.
    pub canary: Vec<f64>,
    /// How long each share lasts, at least.
    pub step: Span,
    /// How many answers it must have given in each stage before the next.
    pub min_answers: u64,
    /// The share of the questions that it answers in the shadow, above 0 and at most 1.
    pub sample: f64,
    /// What it must keep to.
    pub guardrails: Guardrails,
    /// How often it is tried whether a bad version is sent back; only when somebody asks where absent.
    pub drill: Option<Span>,
}

/// What a version must keep to while it takes over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guardrails {
    /// At most one answer in a hundred may take longer, in milliseconds.
    pub latency_p99_ms: f64,
    /// The share of answers that may fail.
    pub errors: f64,
    /// How much more often a feature may be missing than in training, as a share of the answers.
    pub missing: f64,
    /// How far its scores may be distributed from those of the champion, as population stability index; of lists nothing.
    pub drift: f64,
    /// How well it must put people in the champion's order, as rank correlation from -1 to 1; of lists the share of the champion's items
    /// that must be in them too, from 0 to 1.
    pub agreement: f64,
    /// How much worse than the champion's its answers may turn out, as a share of the champion's loss.
    pub worse: f64,
}

impl Default for RolloutRules {
    fn default() -> Self {
        Self {
            shadow: Span::from_seconds(3_600),
            canary: vec![0.01, 0.1, 0.5, 1.0],
            step: Span::from_seconds(3_600),
            min_answers: 100,
            sample: 1.0,
            guardrails: Guardrails::default(),
            drill: None,
        }
    }
}

impl Default for Guardrails {
    /// A population stability index of 0.25 is what the credit industry calls a shift; the others are wide enough for a version that
    /// was trained again.
    fn default() -> Self {
        Self {
            latency_p99_ms: 50.0,
            errors: 0.001,
            missing: 0.1,
            drift: 0.25,
            agreement: 0.3,
            worse: 0.0,
        }
    }
}

impl Guardrails {
    /// The defaults for lists: those of two good versions may have little in common.
    pub fn of_lists() -> Self {
        Self {
            agreement: 0.05,
            ..Self::default()
        }
    }
}

/// What a model answers with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Scores,
    Lists,
}

/// `rollout = { … }`; absent where a version that passed the gate answers at once.
pub(super) fn read_rollout(table: &mut Table<'_, '_>, answers: Answers) -> Option<RolloutRules> {
    let mut table = table.get("rollout")?.table()?;
    let default = RolloutRules {
        guardrails: match answers {
            Answers::Scores => Guardrails::default(),
            Answers::Lists => Guardrails::of_lists(),
        },
        ..RolloutRules::default()
    };
    let span = |entry: Option<Entry<'_, '_>>, default| match entry {
        Some(entry) => entry.span(),
        None => Some(default),
    };
    let shadow = span(table.get("shadow"), default.shadow);
    let canary = match table.get("canary") {
        Some(entry) => read_canary(&entry),
        None => Some(default.canary),
    };
    let step = span(table.get("step"), default.step);
    let min_answers = match table.get("min_answers") {
        Some(entry) => entry
            .integer_within(1, 1_000_000)
            .and_then(|number| u64::try_from(number).ok()),
        None => Some(default.min_answers),
    };
    let sample = match table.get("sample") {
        Some(entry) => entry.share(),
        None => Some(default.sample),
    };
    let guardrails = match table.get("guardrails") {
        Some(entry) => {
            let table = entry.table();
            table.and_then(|table| read_guardrails(table, default.guardrails, answers))
        }
        None => Some(default.guardrails),
    };
    let drill = match table.get("drill") {
        Some(entry) => Some(entry.span()?),
        None => None,
    };
    table.finish();
    Some(RolloutRules {
        shadow: shadow?,
        canary: canary?,
        step: step?,
        min_answers: min_answers?,
        sample: sample?,
        guardrails: guardrails?,
        drill,
    })
}

fn read_canary(entry: &Entry<'_, '_>) -> Option<Vec<f64>> {
    let entries = entry.array()?;
    let shares: Vec<f64> = entries.iter().filter_map(Entry::share).collect();
    if shares.len() < entries.len() {
        return None;
    }
    if shares.windows(2).any(|pair| pair[1] <= pair[0]) {
        let hint = "from small to large, like [0.01, 0.1, 0.5, 1.0]".to_owned();
        entry.problem("the shares do not grow", Some(hint));
        return None;
    }
    Some(shares)
}

fn read_guardrails(
    mut table: Table<'_, '_>,
    default: Guardrails,
    answers: Answers,
) -> Option<Guardrails> {
    if answers == Answers::Lists
        && let Some(entry) = table.get("drift")
    {
        let hint = "agreement compares what is in them".to_owned();
        entry.problem("lists have no scores that could be compared", Some(hint));
    }
    let least_agreement = match answers {
        Answers::Scores => -1.0,
        Answers::Lists => 0.0,
    };
    let mut number = |key: &'static str, default: f64, min: f64, max: f64| {
        let Some(entry) = table.get(key) else {
            return Some(default);
        };
        let number = entry.number()?;
        if (min..=max).contains(&number) {
            return Some(number);
        }
        entry.problem(
            format!("{number} is out of range: from {min} to {max}"),
            None,
        );
        None
    };
    let guardrails = (
        number("latency_p99_ms", default.latency_p99_ms, 0.01, 60_000.0),
        number("errors", default.errors, 0.000_001, 0.5),
        number("missing", default.missing, 0.001, 1.0),
        number("drift", default.drift, 0.01, 100.0),
        number("agreement", default.agreement, least_agreement, 0.99),
        number("worse", default.worse, 0.0, 10.0),
    );
    table.finish();
    let (latency_p99_ms, errors, missing, drift, agreement, worse) = guardrails;
    Some(Guardrails {
        latency_p99_ms: latency_p99_ms?,
        errors: errors?,
        missing: missing?,
        drift: drift?,
        agreement: agreement?,
        worse: worse?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    fn read(rollout: &str) -> Result<Option<RolloutRules>, String> {
        let text = format!(
            "[project]\nname = \"shop\"\n[models.m]\nkind = \"predict\"\nobserve = {{ event = \"A\" }}\n\
             target = {{ event = \"A\", within = \"30d\" }}\n{rollout}\n"
        );
        let project = Project::parse(&text).map_err(|error| error.to_string())?;
        Ok(project.models.into_values().next().unwrap().rollout)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("rollout = {}").unwrap(), Some(RolloutRules::default()));
        let rules = read(
            "rollout = { shadow = \"2h\", canary = [0.05, 1], step = \"30m\", min_answers = 7, sample = 0.5, \
             guardrails = { latency_p99_ms = 10, errors = 0.01 }, drill = \"7d\" }",
        );
        let rules = rules.unwrap().unwrap();
        assert_eq!(rules.canary, [0.05, 1.0]);
        assert_eq!((rules.min_answers, rules.sample), (7, 0.5));
        assert_eq!(rules.drill, Some(Span::from_days(7)));
        let expected = Guardrails {
            latency_p99_ms: 10.0,
            errors: 0.01,
            ..Guardrails::default()
        };
        assert_eq!(rules.guardrails, expected);
    }

    #[test]
    fn lists_have_guardrails_of_their_own() {
        let read = |rollout: &str| {
            let text = format!(
                "[project]\nname = \"shop\"\n[items]\nid = \"properties.product\"\n[models.m]\nkind = \"recommend\"\n\
                 signals = {{ Buy = 1.0 }}\n{rollout}\n"
            );
            let project = Project::parse(&text).map_err(|error| error.to_string())?;
            Ok::<_, String>(project.recommenders.into_values().next().unwrap().rollout)
        };
        assert_eq!(read("").unwrap(), None);
        let rules = read("rollout = {}").unwrap().unwrap();
        assert_eq!(rules.guardrails, Guardrails::of_lists());
        let rules = read("rollout = { drill = \"7d\" }").unwrap().unwrap();
        assert_eq!(rules.drill, Some(Span::from_days(7)));
        for (wrong, expected) in [
            (
                "rollout = { guardrails = { drift = 0.1 } }",
                "lists have no scores that could be compared (agreement compares what is in them)",
            ),
            (
                "rollout = { guardrails = { agreement = -0.5 } }",
                "-0.5 is out of range: from 0 to 0.99",
            ),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    #[test]
    fn mistakes_have_lines_and_remedies() {
        for (wrong, expected) in [
            (
                "rollout = { canary = [0.5, 0.1] }",
                "line 7, models.m.rollout.canary: the shares do not grow (from small to large",
            ),
            (
                "rollout = { canary = [0.1, 2] }",
                "2 is not above 0 and at most 1",
            ),
            ("rollout = { shadow = \"1\" }", "is not a length of time"),
            ("rollout = { shadwo = \"1h\" }", "did you mean 'shadow'?"),
            ("rollout = { min_answers = 0 }", "0 is out of range"),
            (
                "rollout = { guardrails = { error = 0.1 } }",
                "did you mean 'errors'?",
            ),
            (
                "rollout = { guardrails = { errors = 2 } }",
                "2 is out of range: from 0.000001 to 0.5",
            ),
            ("rollout = \"slowly\"", "expected a table"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
            assert_eq!(error.lines().count(), 1, "{wrong}: {error}");
        }
    }
}
