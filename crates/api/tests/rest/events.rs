//! Events and items in.

use std::io::Write;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidemill_api::ApiOptions;
use tidemill_store::catalog::Scope;

use crate::world::{Answer, Setting, World, world};

fn order(id: &str) -> Value {
    json!({ "userId": "u1", "event": "Order Completed", "properties": { "total": 12.5 }, "messageId": id })
}

async fn send(world: &World, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method("POST").uri("/v1/batch");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.call(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn a_key_is_taken_in_three_forms() {
    let world = world().await;
    let key = world.key("shop", Scope::Write);
    let batch = |id: &str| json!({ "batch": [{ "type": "track", "userId": "u1", "event": "Seen", "messageId": id }] });
    let accepted = json!({ "success": true, "accepted": 1, "duplicates": 0, "quarantined": 0 });

    let bearer = send(
        &world,
        &[("authorization", &format!("Bearer {key}"))],
        batch("m1").to_string(),
    )
    .await;
    assert_eq!(
        (bearer.status, bearer.json),
        (StatusCode::OK, accepted.clone())
    );
    let basic = format!("Basic {}", STANDARD.encode(format!("{key}:")));
    let basic = send(
        &world,
        &[("authorization", &basic)],
        batch("m2").to_string(),
    )
    .await;
    assert_eq!(
        (basic.status, basic.json),
        (StatusCode::OK, accepted.clone())
    );
    let mut inside = batch("m3");
    inside["writeKey"] = key.into();
    let inside = send(&world, &[], inside.to_string()).await;
    assert_eq!((inside.status, inside.json), (StatusCode::OK, accepted));

    let reader = json!({ "writeKey": world.key("shop", Scope::Read), "batch": [] });
    let reader = send(&world, &[], reader.to_string()).await;
    assert_eq!(
        (reader.status, reader.code()),
        (StatusCode::FORBIDDEN, "wrong_scope")
    );
    let nobody = send(
        &world,
        &[],
        json!({ "writeKey": "nonsense", "batch": [] }).to_string(),
    )
    .await;
    assert_eq!(
        (nobody.status, nobody.code()),
        (StatusCode::UNAUTHORIZED, "unknown_key")
    );
    assert_eq!(world.get("/v1/events/counts").await.json["stored"], 3);
}

#[tokio::test]
async fn every_endpoint_takes_its_call_under_both_names() {
    let world = world().await;
    let calls = [
        ("track", "t", json!({ "event": "Seen" })),
        ("identify", "i", json!({ "traits": { "plan": "free" } })),
        ("page", "p", json!({ "name": "Home" })),
        ("screen", "s", json!({ "name": "Home" })),
        ("group", "g", json!({ "groupId": "g1" })),
        ("alias", "a", json!({ "previousId": "a1" })),
    ];
    for (long, short, mut call) in calls {
        call["userId"] = "u1".into();
        for path in [long, short] {
            call["messageId"] = path.into();
            let answer = world
                .post(Scope::Write, &format!("/v1/{path}"), &call)
                .await;
            assert_eq!(
                (answer.status, &answer.json["accepted"]),
                (StatusCode::OK, &json!(1)),
                "{path}: {}",
                answer.text
            );
        }
    }
    assert_eq!(
        world.get("/v1/events/counts").await.json,
        json!({ "stored": 12, "duplicates": 0, "quarantined": 0 })
    );
}

#[tokio::test]
async fn every_event_of_a_batch_is_counted_once() {
    let world = world().await;
    let mut good = order("m1");
    good["type"] = "track".into();
    let other = json!({ "type": "track", "userId": "u2", "event": "Seen", "messageId": "m2" });
    let bad = json!({ "type": "track", "event": "Seen" }); // about nobody
    let batch = json!({ "batch": [good, other, good, bad] });
    let answer = world.post(Scope::Write, "/v1/batch", &batch).await;
    assert_eq!(
        answer.json,
        json!({ "success": true, "accepted": 2, "duplicates": 1, "quarantined": 1 })
    );
    let again = world.post(Scope::Write, "/v1/b", &batch).await;
    assert_eq!(
        again.json,
        json!({ "success": true, "accepted": 0, "duplicates": 3, "quarantined": 1 })
    );
    assert_eq!(
        world.get("/v1/events/counts").await.json,
        json!({ "stored": 2, "duplicates": 4, "quarantined": 2 })
    );

    let first = world.get("/v1/quarantine?limit=1").await.json;
    assert_eq!(first["quarantine"][0]["reason"], "missing_field", "{first}");
    let next = first["next_cursor"].as_str().unwrap();
    let second = world
        .get(&format!("/v1/quarantine?limit=1&cursor={next}"))
        .await
        .json;
    assert!(
        second["quarantine"][0]["id"].as_u64() < first["quarantine"][0]["id"].as_u64(),
        "{second}"
    );
    world.catch_up().await;
    assert_eq!(
        world.get("/v1/events/seen").await.json["events"]["Order Completed"]["count"],
        1
    );
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let world = world().await;
    let bearer = format!("Bearer {}", world.key("shop", Scope::Write));
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-encoding", "gzip"),
    ];
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let batch =
        json!({ "batch": [{ "type": "track", "userId": "u1", "event": "Seen" }] }).to_string();
    let answer = send(&world, &headers, gzip(&batch)).await;
    assert_eq!(
        (answer.status, &answer.json["accepted"]),
        (StatusCode::OK, &json!(1)),
        "{}",
        answer.text
    );
    // the key in a compressed body is found too
    let inside = json!({ "writeKey": world.key("shop", Scope::Write), "batch": [] }).to_string();
    assert_eq!(
        send(&world, &headers[1..], gzip(&inside)).await.status,
        StatusCode::OK
    );
    let bomb = send(&world, &headers, gzip(&" ".repeat(5_000_000))).await;
    assert_eq!(
        (bomb.status, bomb.code()),
        (StatusCode::BAD_REQUEST, "too_large")
    );
    let broken = send(&world, &headers, batch).await;
    assert_eq!(
        (broken.status, broken.code()),
        (StatusCode::BAD_REQUEST, "unreadable_body")
    );
    let other = send(&world, &[headers[0], ("content-encoding", "br")], "x").await;
    assert_eq!(
        (other.status, other.code()),
        (StatusCode::BAD_REQUEST, "unsupported_encoding")
    );
}

#[tokio::test]
async fn unusable_calls_are_refused_in_the_form_that_sdks_know() {
    let world = world().await;
    let large = json!({ "batch": [], "padding": "x".repeat(600_000) }).to_string();
    let many = json!({ "batch": vec![json!({}); 2_501] }).to_string();
    for (body, code) in [
        ("{", "unreadable_body"),
        ("[]", "wrong_shape"),
        ("{}", "batch_absent"),
        (large.as_str(), "too_large"),
        (many.as_str(), "too_many_events"),
    ] {
        let answer = world.post(Scope::Write, "/v1/batch", body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::BAD_REQUEST, code),
            "{}",
            answer.text
        );
        assert_eq!(answer.json["success"], false, "{}", answer.text);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    assert_eq!(world.get("/v1/events/counts").await.json["stored"], 0);
}

#[tokio::test]
async fn web_pages_of_any_origin_may_send_events_and_nothing_else() {
    let world = world().await;
    let asked = world.send(Method::OPTIONS, "/v1/track", None, "").await;
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.header("access-control-allow-origin"), "*");
    assert!(
        asked
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let sent = world.post(Scope::Write, "/v1/track", order("m1")).await;
    assert_eq!(sent.header("access-control-allow-origin"), "*");
    let refused = world
        .send(Method::POST, "/v1/track", None, order("m2"))
        .await;
    assert_eq!(
        (
            refused.status,
            refused.header("access-control-allow-origin")
        ),
        (StatusCode::UNAUTHORIZED, "*")
    );
    let answer = world
        .post(
            Scope::Read,
            "/v1/predict/will_return",
            json!({ "user": "u1" }),
        )
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(
        world
            .send(Method::OPTIONS, "/v1/items", None, "")
            .await
            .status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn beyond_the_limits_calls_are_refused_at_once() {
    for options in [
        ApiOptions {
            events_in_flight_max: 0,
            ..ApiOptions::default()
        },
        ApiOptions {
            events_bytes_max: 0,
            ..ApiOptions::default()
        },
    ] {
        let world = World::new(Setting {
            options,
            full: false,
        })
        .await;
        let answer = world.post(Scope::Write, "/v1/track", order("m1")).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            "{}",
            answer.text
        );
        assert_eq!(
            (answer.header("retry-after"), &answer.json["success"]),
            ("1", &json!(false))
        );
        // questions have room of their own
        let answer = world
            .post(
                Scope::Read,
                "/v1/predict/will_return",
                json!({ "user": "u1" }),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_predictions_go_on() {
    let world = World::new(Setting {
        options: ApiOptions::default(),
        full: true,
    })
    .await;
    assert_eq!(
        world
            .send(Method::GET, "/health/ready", None, "")
            .await
            .status,
        StatusCode::OK
    );
    let answer = world.post(Scope::Write, "/v1/track", order("m1")).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "store_full")
    );
    assert_eq!(
        (answer.header("retry-after"), &answer.json["success"]),
        ("5", &json!(false))
    );
    let item = world
        .send(
            Method::PUT,
            "/v1/items",
            Some(world.key("shop", Scope::Admin)),
            json!({ "id": "i1" }),
        )
        .await;
    assert_eq!(
        (item.status, item.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "store_full")
    );
    let answer = world
        .post(
            Scope::Read,
            "/v1/predict/will_return",
            json!({ "user": "u1" }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let ready = world.send(Method::GET, "/health/ready", None, "").await;
    assert_eq!(
        (ready.status, &ready.json["log_writable"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false))
    );
}

#[tokio::test]
async fn items_come_change_and_go() {
    let world = world().await;
    let admin = world.key("shop", Scope::Admin);
    let items = json!({ "items": [
        { "id": "i1", "attributes": { "price": 9.5, "category": "books" } },
        { "id": "a/b", "attributes": { "price": 1.0 } },
        { "attributes": {} },
    ] });
    let put = world
        .send(Method::PUT, "/v1/items", Some(admin), items)
        .await;
    assert_eq!(
        (put.status, put.json),
        (
            StatusCode::OK,
            json!({ "accepted": 2, "duplicates": 0, "quarantined": 1 })
        )
    );
    world.catch_up().await;
    assert_eq!(
        world.get("/v1/items/i1").await.json["attributes"],
        json!({ "price": 9.5, "category": "books" })
    );
    assert_eq!(world.get("/v1/items/a%2Fb").await.json["id"], "a/b");

    let deleted = world
        .send(Method::DELETE, "/v1/items/i1", Some(admin), "")
        .await;
    assert_eq!(
        (deleted.status, &deleted.json["accepted"]),
        (StatusCode::OK, &json!(1)),
        "{}",
        deleted.text
    );
    world.catch_up().await;
    let gone = world.get("/v1/items/i1").await;
    assert_eq!(
        (gone.status, gone.code()),
        (StatusCode::NOT_FOUND, "unknown_item")
    );
    let long = world.get(&format!("/v1/items/{}", "x".repeat(513))).await;
    assert_eq!(
        (long.status, long.code()),
        (StatusCode::BAD_REQUEST, "bad_path")
    );
    let not_text = world.get("/v1/items/%FF").await;
    assert_eq!(
        (not_text.status, not_text.code()),
        (StatusCode::BAD_REQUEST, "bad_path")
    );
    let large = world
        .send(Method::PUT, "/v1/items", Some(admin), "x".repeat(600_000))
        .await;
    assert_eq!(
        (large.status, large.code()),
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    );
}
