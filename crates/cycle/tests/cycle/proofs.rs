//! What the loop proves by itself: how versions age, and that the way from rows to answers works.

use tidemill_core::Span;
use tidemill_cycle::ByHand;
use tidemill_cycle::scorecard::{Counts, Scorecard};
use tidemill_serve::PredictRequest;

use crate::shop::Shop;

async fn aged_shop() -> Shop {
    let shop = Shop::open(3).await;
    shop.live(150, "Page Viewed").await;
    shop.answer_by_a_version().await;
    shop.live(45, "Page Viewed").await;
    shop.answer_by_a_version().await;
    shop.live(45, "Page Viewed").await;
    shop.project.catch_up().await.unwrap();
    shop.build().await;
    shop
}

#[tokio::test]
async fn versions_are_asked_about_what_they_cannot_have_seen() {
    let shop = aged_shop().await;
    let measured = shop.project.measure_staleness(&shop.model).await.unwrap();
    assert_eq!((measured.versions, measured.left_out), (2, 0));
    let band = |from: u32| {
        measured
            .bands
            .iter()
            .find(|band| band.from_days == from)
            .unwrap()
    };
    // the first version is 28 to 56 days old while the second is young, and both are compared on the same rows
    let old = band(56);
    assert!(old.rows >= 30 && old.versions == 1, "{old:?}");
    assert!(old.value.is_some() && old.interval.is_some(), "{old:?}");
    assert!(old.loss.is_some(), "{old:?}");
    assert_eq!(band(182).rows, 0);
    // where the only version there is is compared with itself, age costs nothing
    let young = band(0);
    assert_eq!(young.loss.unwrap_or(0.0), 0.0, "{young:?}");
    assert_eq!(shop.project.staleness(&shop.model).unwrap(), Some(measured));
}

#[tokio::test]
async fn nothing_is_measured_where_no_version_answered() {
    let shop = Shop::open(3).await;
    shop.live(150, "Page Viewed").await;
    shop.project.catch_up().await.unwrap();
    shop.build().await;
    let refused = shop
        .project
        .measure_staleness(&shop.model)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no version"), "{refused}");
}

#[tokio::test]
async fn a_rehearsal_goes_all_the_way_and_makes_the_same_bytes() {
    let shop = aged_shop().await;
    ask(&shop, 10);
    let champion = shop.answering();
    let played = shop.project.rehearse(&shop.model).await.unwrap();
    assert!(
        played.is_reproducible && played.learns && played.is_served(),
        "{played:?}"
    );
    assert!(played.rows > 50 && played.asked > 0, "{played:?}");
    // nobody hears of it
    let slot = shop.project.slot(&shop.model).unwrap();
    assert_eq!(slot.champion().unwrap().number, champion);
    assert_eq!(
        shop.project.last_rehearsal(&shop.model).unwrap(),
        Some(played)
    );
}

#[tokio::test]
async fn a_check_up_comes_by_itself_and_not_too_often() {
    let shop = aged_shop().await;
    assert!(shop.project.last_checkup(&shop.model).unwrap().is_none());
    shop.project.check_up_due().await.unwrap();
    let first = shop.project.last_checkup(&shop.model).unwrap().unwrap();
    assert_eq!(first.at, shop.project.clock.now());
    shop.clock.advance_to(first.at + Span::from_days(10));
    shop.project.check_up_due().await.unwrap();
    let second = shop.project.last_checkup(&shop.model).unwrap().unwrap();
    assert_eq!(second.at, first.at);
}

fn ask(shop: &Shop, people: i64) {
    for person in 0..people {
        let request = PredictRequest {
            user: Some(format!("u{}", person % 30)),
            ..PredictRequest::default()
        };
        let answerer = &shop.project.answerer;
        answerer.predict(&shop.model, &request).unwrap();
    }
}

fn counts(card: &Scorecard, id: &str) -> Counts {
    let mut tests = card.groups.iter().flat_map(|group| &group.tests);
    tests.find(|test| test.id == id).unwrap().counts
}

#[tokio::test]
async fn a_plain_installation_scores_next_to_nothing() {
    let shop = Shop::open(3).await;
    let card = shop.project.scorecard(&shop.model).await.unwrap();
    assert_eq!(card.score, 0.0);
    let tests = card.groups.iter().flat_map(|group| &group.tests);
    let counted: Vec<&str> = tests
        .filter(|test| test.points > 0.0)
        .map(|test| test.id)
        .collect();
    // that no feature reads a personal field is seen in the definitions
    assert_eq!(counted, ["data4"]);
}

#[tokio::test]
async fn evidence_is_what_is_there_and_expires() {
    let shop = aged_shop().await;
    ask(&shop, 120);
    let before = shop.project.scorecard(&shop.model).await.unwrap();
    for missing in [
        "data7",
        "model4",
        "infrastructure1",
        "infrastructure7",
        "monitoring3",
    ] {
        assert_eq!(counts(&before, missing), Counts::Missing, "{missing}");
    }
    shop.project.check_up(&shop.model).await.unwrap();
    shop.project
        .drill_rollback(&shop.model, "test")
        .await
        .unwrap();
    shop.project.check_consistency(1.0).await.unwrap();
    let proved = shop.project.scorecard(&shop.model).await.unwrap();
    for there in [
        "data7",
        "infrastructure1",
        "infrastructure3",
        "infrastructure7",
        "monitoring3",
        "monitoring5",
    ] {
        assert_eq!(counts(&proved, there), Counts::Automatic, "{there}");
    }
    assert!(proved.groups[2].points >= before.groups[2].points + 4.0);

    // a month on, what was read again then says nothing of today, and half a year on the rehearsal neither
    let now = shop.project.clock.now();
    shop.clock.advance_to(now + Span::from_days(31));
    let later = shop.project.scorecard(&shop.model).await.unwrap();
    assert_eq!(counts(&later, "data7"), Counts::Expired);
    assert_eq!(counts(&later, "infrastructure1"), Counts::Automatic);
    shop.clock.advance_to(now + Span::from_days(121));
    let later = shop.project.scorecard(&shop.model).await.unwrap();
    assert_eq!(counts(&later, "infrastructure1"), Counts::Expired);
    assert!(later.groups[2].points < proved.groups[2].points);
}

#[tokio::test]
async fn a_person_records_a_test_by_name_and_it_counts_half() {
    let shop = Shop::open(3).await;
    let done = |by: &str, at| ByHand {
        by: by.to_owned(),
        at,
        note: "read by two of us, see the minutes".to_owned(),
    };
    let now = shop.project.clock.now();
    let record = |test: &'static str, done: ByHand| {
        let project = shop.project.clone();
        let model = shop.model.clone();
        async move { project.record_by_hand(&model, test, done, "key").await }
    };
    assert!(record("model9", done("the team", now)).await.is_err());
    assert!(record("model1", done(" ", now)).await.is_err());
    assert!(
        record("model1", done("the team", now + Span::from_days(1)))
            .await
            .is_err()
    );
    record("model1", done("the team", now)).await.unwrap();
    let card = shop.project.scorecard(&shop.model).await.unwrap();
    assert_eq!(card.groups[1].points, 0.5);
    assert_eq!(counts(&card, "model1"), Counts::ByHand);
    let catalog = &shop.project.stores.catalog;
    let audit = catalog
        .audit_log(&shop.project.project.name, 1)
        .await
        .unwrap();
    assert_eq!(
        (audit[0].action.as_str(), audit[0].actor.as_str()),
        ("record test", "key")
    );
    assert!(audit[0].reason.contains("the team"), "{audit:?}");
    shop.clock.advance_to(now + Span::from_days(181));
    let card = shop.project.scorecard(&shop.model).await.unwrap();
    assert_eq!(counts(&card, "model1"), Counts::Expired);
}
