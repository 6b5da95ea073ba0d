//! The 28 tests, in our own words, after *The ML Test Score: A Rubric for ML Production Readiness* (Breck, Cai, Nielsen, Salib, Sculley;
//! IEEE Big Data 2017).

use serde::{Deserialize, Serialize};

/// The four groups of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Features and data.
    Data,
    /// Developing a model.
    Model,
    /// What carries it.
    Infrastructure,
    /// Watching it.
    Monitoring,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Data,
        Self::Model,
        Self::Infrastructure,
        Self::Monitoring,
    ];
}

/// A test of the rubric.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// `data1` to `monitoring7`, in the order of the paper.
    pub id: &'static str,
    /// Its group.
    pub group: Group,
    /// What must hold.
    pub title: &'static str,
    /// After how many days its evidence counts for nothing.
    pub period_days: i64,
    /// What gives it evidence.
    pub next_step: &'static str,
}

const fn test(
    id: &'static str,
    group: Group,
    period_days: i64,
    title: &'static str,
    next_step: &'static str,
) -> Test {
    Test {
        id,
        group,
        title,
        period_days,
        next_step,
    }
}

/// All 28.
pub const TESTS: [Test; 28] = {
    use Group::{Data, Infrastructure, Model, Monitoring};
    [
        test(
            "data1",
            Data,
            7,
            "what values are expected is written down or learnt, and compared",
            "let events come in for some days; `tidemill data` shows what is compared",
        ),
        test(
            "data2",
            Data,
            120,
            "every feature is known to help or not",
            "train a version that passes: a run measures how much each feature moves the answers",
        ),
        test(
            "data3",
            Data,
            7,
            "no feature costs more than it gives",
            "`tidemill features show` measures what each costs once people are known",
        ),
        test(
            "data4",
            Data,
            7,
            "features read only what may be used",
            "leave out features that read what the list of personal fields names",
        ),
        test(
            "data5",
            Data,
            400,
            "what is known of a person is under control and can be erased",
            "`tidemill erase` leaves an entry in the audit log; or record a review by hand",
        ),
        test(
            "data6",
            Data,
            120,
            "a new feature can be served soon",
            "train: the run measures how long it takes from definitions to an examined version",
        ),
        test(
            "data7",
            Data,
            30,
            "the code of features is tested",
            "`tidemill features check` computes every served value a second way",
        ),
        test(
            "model1",
            Model,
            400,
            "definitions are reviewed and kept in versions",
            "record the review: `tidemill scorecard MODEL --record model1 --by NAME --note WHERE`",
        ),
        test(
            "model2",
            Model,
            180,
            "what examinations promise comes true",
            "a check-up compares once three versions have 100 answers with known outcomes",
        ),
        test(
            "model3",
            Model,
            120,
            "what can be tuned is tuned",
            "train: a run chooses among candidates on rows that were not fitted",
        ),
        test(
            "model4",
            Model,
            120,
            "it is known what age costs",
            "`tidemill staleness MODEL` measures it; a check-up does by itself",
        ),
        test(
            "model5",
            Model,
            120,
            "nothing simpler is as good",
            "train a version that beats the simple rules on unseen rows",
        ),
        test(
            "model6",
            Model,
            120,
            "quality is looked at in parts of the data",
            "train: an examination searches for the worst slices",
        ),
        test(
            "model7",
            Model,
            120,
            "nobody is treated worse unseen",
            "declare slices of people: gate = { slices = [\"user.country\"] }",
        ),
        test(
            "infrastructure1",
            Infrastructure,
            120,
            "the same rows make the same model",
            "a check-up rehearses it; `tidemill dataset build MODEL --again N` does for datasets",
        ),
        test(
            "infrastructure2",
            Infrastructure,
            120,
            "the definition of a model is tested",
            "a check-up fits a small model and sees whether it learns",
        ),
        test(
            "infrastructure3",
            Infrastructure,
            120,
            "the whole way is tested end to end",
            "a check-up goes from kept rows to answers about people who were asked about",
        ),
        test(
            "infrastructure4",
            Infrastructure,
            400,
            "quality is examined before a version serves",
            "train a version that passes the gate",
        ),
        test(
            "infrastructure5",
            Infrastructure,
            30,
            "a single answer can be looked into",
            "ask the model about somebody: `tidemill decisions ID` explains",
        ),
        test(
            "infrastructure6",
            Infrastructure,
            400,
            "a version meets few people first",
            "let versions take over in stages: rollout = {} in the project file",
        ),
        test(
            "infrastructure7",
            Infrastructure,
            120,
            "a bad version can be sent back",
            "`tidemill drill rollback MODEL` proves it; the loop drills by itself",
        ),
        test(
            "monitoring1",
            Monitoring,
            7,
            "changes of what the data come from are told",
            "let events come in for some days; name a webhook under [alerts]",
        ),
        test(
            "monitoring2",
            Monitoring,
            7,
            "what arrives keeps to what was declared",
            "declare properties under [events.…] in the project file",
        ),
        test(
            "monitoring3",
            Monitoring,
            30,
            "what is served is what is trained on",
            "`tidemill features check` reads served answers again from the lake",
        ),
        test(
            "monitoring4",
            Monitoring,
            120,
            "the version is not too old",
            "let it be trained again: retrain = { every = \"28d\" }",
        ),
        test(
            "monitoring5",
            Monitoring,
            30,
            "answers are sound numbers",
            "ask the model at least 100 times",
        ),
        test(
            "monitoring6",
            Monitoring,
            120,
            "nothing has become slow",
            "train four times: runs are compared with those before",
        ),
        test(
            "monitoring7",
            Monitoring,
            90,
            "quality has not fallen on served answers",
            "wait until 100 answers have a known outcome",
        ),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_seven_in_each_group_and_no_name_twice() {
        for group in Group::ALL {
            assert_eq!(TESTS.iter().filter(|test| test.group == group).count(), 7);
        }
        let ids: BTreeSet<&str> = TESTS.iter().map(|test| test.id).collect();
        assert_eq!(ids.len(), 28);
    }
}
