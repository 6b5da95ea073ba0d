//! Answers out: predictions, decisions and people.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidemill_store::catalog::Scope;

use crate::world::world;

const PREDICT: &str = "/v1/predict/will_return";

#[tokio::test]
async fn there_is_always_an_answer() {
    let world = world().await;
    // an empty project, and nobody known
    let answer = world
        .post(
            Scope::Read,
            PREDICT,
            json!({ "user": "u1", "reasons": true }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let json = &answer.json;
    assert_eq!(
        (&json["fallback"], &json["score"]),
        (&json!("no_version"), &json!(0.5))
    );
    assert_eq!(
        (&json["model"], &json["reasons"], &json["version"]),
        (&json!("will_return"), &json!([]), &Value::Null)
    );
    let anonymous = world
        .post(Scope::Read, PREDICT, json!({ "anonymous_id": "a1" }))
        .await;
    assert_eq!(
        anonymous.json["fallback"], "no_version",
        "{}",
        anonymous.text
    );
    // the model of the other project is none of this one
    let other = world
        .post(
            Scope::Read,
            "/v1/predict/will_upgrade",
            json!({ "user": "u1" }),
        )
        .await;
    assert_eq!(
        (other.status, other.code()),
        (StatusCode::NOT_FOUND, "unknown_model")
    );
}

#[tokio::test]
async fn unusable_questions_say_what_was_probably_meant() {
    let world = world().await;
    let check = async |path: &str,
                       body: &str,
                       status: u16,
                       code: &str,
                       field: Option<&str>,
                       hint: Option<&str>| {
        let answer = world.post(Scope::Read, path, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, code),
            "{}",
            answer.text
        );
        assert_eq!(answer.json["field"].as_str(), field, "{}", answer.text);
        assert_eq!(answer.json["type"], format!("/errors/{code}"));
        if let Some(hint) = hint {
            assert_eq!(answer.json["hint"], hint);
        }
    };
    check(
        "/v1/predict/will_retrun",
        r#"{"user": "u1"}"#,
        404,
        "unknown_model",
        Some("model"),
        Some("did you mean 'will_return'?"),
    )
    .await;
    check(
        "/v1/predict/%2e%2e",
        r#"{"user": "u1"}"#,
        404,
        "unknown_model",
        Some("model"),
        None,
    )
    .await;
    check(PREDICT, "{}", 400, "nobody", Some("user"), None).await;
    check(PREDICT, "", 400, "nobody", Some("user"), None).await;
    check(
        PREDICT,
        r#"{"user": ""}"#,
        400,
        "nobody",
        Some("user"),
        None,
    )
    .await;
    check(
        PREDICT,
        r#"{"usr": "u1"}"#,
        400,
        "wrong_shape",
        Some("usr"),
        Some("did you mean 'user'?"),
    )
    .await;
    check(PREDICT, r#"{"user": 7}"#, 400, "wrong_shape", None, None).await;
    check(PREDICT, "{", 400, "unreadable_body", None, None).await;
    check(PREDICT, r#"["u1"]"#, 400, "wrong_shape", None, None).await;
    check(
        PREDICT,
        &"[".repeat(10_000),
        400,
        "unreadable_body",
        None,
        None,
    )
    .await;
    check(
        PREDICT,
        &format!(r#"{{"user": "{}"}}"#, "x".repeat(70_000)),
        413,
        "too_large",
        None,
        None,
    )
    .await;
}

#[tokio::test]
async fn many_are_answered_in_their_order() {
    let world = world().await;
    let path = format!("{PREDICT}/batch");
    let entities: Vec<Value> = (0..1_000)
        .map(|number| json!({ "user": format!("u{number}") }))
        .collect();
    let answer = world
        .post(
            Scope::Read,
            &path,
            json!({ "entities": entities, "reasons": true }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let predictions = answer.json["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 1_000);
    assert_eq!(predictions[0]["reasons"], json!([]));
    let last = predictions[999]["decision_id"].as_str().unwrap();
    let decision = world.get(&format!("/v1/decisions/{last}")).await;
    assert_eq!(
        decision.json["decision"]["entity"], "user:u999",
        "{}",
        decision.text
    );

    let mut many = entities.clone();
    many.push(json!({ "user": "u1000" }));
    let many = world
        .post(Scope::Read, &path, json!({ "entities": many }))
        .await;
    assert_eq!(
        (many.status, many.code()),
        (StatusCode::BAD_REQUEST, "too_many_events")
    );
    let nobody = world
        .post(
            Scope::Read,
            &path,
            json!({ "entities": [{ "user": "u1" }, {}] }),
        )
        .await;
    assert_eq!(
        (nobody.code(), &nobody.json["field"]),
        ("nobody", &json!("entities[1]"))
    );
    assert_eq!(
        world.project("shop").decisions.last(),
        1_000,
        "a refused batch leaves no decision"
    );
}

#[tokio::test]
async fn every_answer_is_a_decision() {
    let world = world().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let question = json!({ "user": format!("u{number}"), "context": { "page": "checkout" } });
        ids.push(world.post(Scope::Read, PREDICT, question).await.json["decision_id"].clone());
    }
    let mut listed = Vec::new();
    let mut path = "/v1/decisions?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.json;
        listed.extend(
            page["decisions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["decision_id"].clone()),
        );
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/decisions?limit=2&cursor={next}");
    }
    ids.reverse();
    assert_eq!(listed, ids);

    let one = world
        .get(&format!("/v1/decisions/{}", ids[0].as_str().unwrap()))
        .await;
    assert_eq!(
        one.json["decision"]["context"]["page"], "checkout",
        "{}",
        one.text
    );
    assert_eq!(one.json["decision"]["fallback"], "no_version");
    for unknown in ["nonsense", "0190a0b0-0000-7000-8000-000000000000"] {
        let answer = world.get(&format!("/v1/decisions/{unknown}")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::NOT_FOUND, "unknown_decision")
        );
    }
    for bad in ["limit=0", "limit=1001", "limit=x", "cursor=x", "curser=x"] {
        let answer = world.get(&format!("/v1/decisions?{bad}")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, "bad_query"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn looking_at_a_person_is_not_asking() {
    let world = world().await;
    for (number, event) in ["Product Viewed", "Order Completed", "Order Completed"]
        .into_iter()
        .enumerate()
    {
        let event = json!({ "userId": "u1", "event": event, "messageId": format!("m{number}") });
        world.post(Scope::Write, "/v1/track", event).await;
    }
    world
        .post(
            Scope::Write,
            "/v1/track",
            json!({ "anonymousId": "a1", "event": "Product Viewed" }),
        )
        .await;
    world.catch_up().await;

    let person = world.get("/v1/users/u1?events=2").await;
    assert_eq!(person.status, StatusCode::OK, "{}", person.text);
    let json = &person.json;
    assert_eq!(
        (&json["person"], &json["known"]),
        (&json!("user:u1"), &json!(true))
    );
    let timeline = json["timeline"].as_array().unwrap();
    assert_eq!(timeline.len(), 2);
    assert_eq!(
        (&timeline[0]["offset"], &timeline[0]["message_id"]),
        (&json!(3), &json!("m2"))
    );
    let orders = json["features"]
        .as_array()
        .unwrap()
        .iter()
        .find(|feature| feature["name"] == "user.orders_30d");
    let orders = orders.unwrap_or_else(|| panic!("no such feature: {}", person.text));
    assert_eq!(orders["value"], 2.0);
    assert!(
        orders["label"]
            .as_str()
            .is_some_and(|label| !label.is_empty())
    );
    assert_eq!(json["predictions"][0]["model"], "will_return");
    assert_eq!(json["predictions"][0]["fallback"], "no_version");

    let anonymous = world.get("/v1/users/a1?anonymous=true").await;
    assert_eq!(
        (&anonymous.json["person"], &anonymous.json["known"]),
        (&json!("anonymous:a1"), &json!(true))
    );
    assert_eq!(world.get("/v1/users/a1").await.json["known"], false);
    assert_eq!(
        world.get("/v1/users/u1?events=501").await.code(),
        "bad_query"
    );
    assert_eq!(world.project("shop").decisions.last(), 0);
}

#[tokio::test]
async fn what_was_answered_is_counted_by_day_and_reason() {
    let world = world().await;
    for user in ["u1", "u2", "u3"] {
        let answer = world
            .post(Scope::Read, PREDICT, json!({ "user": user }))
            .await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let report = world.get("/v1/models/will_return/answers").await;
    assert_eq!(report.status, StatusCode::OK);
    let today = &report.json["days"][0];
    assert_eq!(
        (&today["answers"], &today["fallbacks"]),
        (&json!(3), &json!({ "no_version": 3 }))
    );
    assert_eq!(report.json["days"].as_array().map(Vec::len), Some(28));
    assert_eq!(report.json["differs"], json!([]));
    let unknown = world.get("/v1/models/will_retrun/answers").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let misspelt = world
        .get("/v1/models/will_return/answers?featur=user.x")
        .await;
    assert_eq!(misspelt.status, StatusCode::BAD_REQUEST);
}
