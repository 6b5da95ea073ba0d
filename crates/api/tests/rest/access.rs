//! The gate of every row of the table: each route × {no key, bad key, revoked key, wrong scope, right key, other project}.

use axum::http::{Method, StatusCode};
use serde_json::json;
use tidemill_api::{Access, PROBLEM_JSON, Route, routes};
use tidemill_store::catalog::Scope;

use crate::world::{SCOPES, World, world};

/// Things of the shop that the paths name.
struct Things {
    decision: String,
    key: String,
}

async fn things(world: &World) -> Things {
    let item = json!({ "id": "i1", "attributes": { "price": 9.5 } });
    let put = world
        .send(
            Method::PUT,
            "/v1/items",
            Some(world.key("shop", Scope::Admin)),
            item,
        )
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let order = json!({ "userId": "u1", "event": "Order Completed", "messageId": "m1" });
    world.post(Scope::Write, "/v1/track", order).await;
    world.catch_up().await;
    let answer = world
        .post(
            Scope::Read,
            "/v1/predict/will_return",
            json!({ "user": "u1" }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let created = world
        .post(Scope::Admin, "/v1/keys", json!({ "scope": "read" }))
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    Things {
        decision: text(&answer.json["decision_id"]),
        key: text(&created.json["id"]),
    }
}

fn path(route: &Route, things: &Things) -> String {
    let id = match route.path {
        path if path.starts_with("/v1/decisions") => things.decision.as_str(),
        path if path.starts_with("/v1/keys") => things.key.as_str(),
        path if path.starts_with("/v1/items") => "i1",
        path if path.starts_with("/v1/users") => "u1",
        _ => "0190a0b0-0000-7000-8000-000000000000",
    };
    let recommends = ["/v1/recommend/", "/v1/rank/", "/v1/similar/"];
    let model = match recommends.iter().any(|start| route.path.starts_with(start)) {
        true => "for_you",
        false => "will_return",
    };
    let filled = route
        .path
        .replace("{id}", id)
        .replace("{item}", "i1")
        .replace("{model}", model)
        .replace("{version}", "1")
        .replace("{with}", "2")
        .replace("{code}", "unknown_model");
    assert!(
        !filled.contains('{'),
        "{filled} names something that this test does not know"
    );
    filled
}

/// A body that does nothing harmful where it is let through.
fn body(route: &Route) -> &'static str {
    match route.path {
        "/v1/predict/{model}" => r#"{"user": "u1"}"#,
        "/v1/rank/{model}" => r#"{"items": ["i1"]}"#,
        "/v1/predict/{model}/batch" => r#"{"entities": [{"user": "u1"}]}"#,
        "/v1/keys" => r#"{"scope": "write"}"#,
        "/v1/models/{model}/promote" => r#"{"version": 1}"#,
        "/v1/models/{model}/scorecard" => {
            r#"{"test": "model1", "by": "the team", "note": "in the minutes"}"#
        }
        "/v1/alerts/{id}/silence" => r#"{"for": "1h"}"#,
        _ => "{}",
    }
}

fn needed(route: &Route) -> Option<Scope> {
    match route.access {
        Access::Open => None,
        Access::Metrics => Some(Scope::Read),
        Access::Events => Some(Scope::Write),
        Access::Needs(scope) => Some(scope),
    }
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

#[test]
fn only_these_are_open() {
    let open: Vec<String> = routes()
        .iter()
        .filter(|route| route.access == Access::Open && route.method != Method::OPTIONS)
        .map(name)
        .collect();
    assert_eq!(
        open,
        [
            "GET /health/live",
            "GET /health/ready",
            "GET /errors/{code}",
            "GET /"
        ]
    );
    let events: Vec<&str> = routes()
        .iter()
        .filter(|route| route.access == Access::Events)
        .map(|route| route.path)
        .collect();
    assert_eq!(events.len(), 14, "{events:?}");
    for route in routes()
        .iter()
        .filter(|route| route.method == Method::OPTIONS)
    {
        assert!(
            events.contains(&route.path),
            "only events may come from web pages of any origin: {}",
            route.path
        );
    }
}

#[tokio::test]
async fn without_a_working_key_nothing_is_done() {
    let world = world().await;
    let things = things(&world).await;
    let revoked = world
        .post(Scope::Admin, "/v1/keys", json!({ "scope": "admin" }))
        .await;
    let (id, secret) = (
        revoked.json["id"].as_str().unwrap(),
        revoked.json["secret"].as_str().unwrap(),
    );
    let gone = world
        .send(
            Method::DELETE,
            &format!("/v1/keys/{id}"),
            Some(world.key("shop", Scope::Admin)),
            "",
        )
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text);
    let mut altered = world.key("shop", Scope::Admin).to_owned();
    altered.replace_range(20..24, "AAAA");

    for route in routes().iter().filter(|route| needed(route).is_some()) {
        let path = path(route, &things);
        let cases = [
            (None, "no_key"),
            (Some("nonsense"), "unknown_key"),
            (Some(secret), "unknown_key"),
            (Some(&altered), "unknown_key"),
        ];
        for (key, code) in cases {
            let answer = world
                .send(route.method.clone(), &path, key, body(route))
                .await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::UNAUTHORIZED, code),
                "{}",
                name(route)
            );
            assert_eq!(answer.header("content-type"), PROBLEM_JSON);
            assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{}",
                name(route)
            );
            assert!(
                !answer.text.contains(&altered[13..]),
                "a secret was sent back: {}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn keys_do_what_their_scope_says() {
    let world = world().await;
    let things = things(&world).await;
    for route in &routes() {
        let path = path(route, &things);
        for scope in SCOPES {
            // the last rows change what the others need: who may delete is asked without deleting
            let harmless = if route.method == Method::DELETE {
                format!("{path}-not")
            } else {
                path.clone()
            };
            let key = world.key("shop", scope);
            let answer = world
                .send(route.method.clone(), &harmless, Some(key), body(route))
                .await;
            let case = format!(
                "{} with {scope}: {} {}",
                name(route),
                answer.status,
                answer.text
            );
            if needed(route).is_none_or(|needed| scope.allows(needed)) {
                let refused = [
                    "no_key",
                    "unknown_key",
                    "wrong_scope",
                    "unknown_route",
                    "wrong_method",
                    "internal",
                ];
                assert!(!refused.contains(&answer.code()), "{case}");
                assert!(!answer.status.is_server_error(), "{case}");
            } else {
                assert_eq!(
                    (answer.status, answer.code()),
                    (StatusCode::FORBIDDEN, "wrong_scope"),
                    "{case}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_things_of_another_project_do_not_exist() {
    let world = world().await;
    let things = things(&world).await;
    let stranger = world.key("tools", Scope::Admin);
    for route in routes()
        .iter()
        .filter(|route| route.path.contains('{') && needed(route).is_some())
    {
        let answer = world
            .send(
                route.method.clone(),
                &path(route, &things),
                Some(stranger),
                body(route),
            )
            .await;
        let case = format!("{}: {}", name(route), answer.text);
        match (&route.method, route.path) {
            // ids of people and items are the callers' own: each project has its own person and item of that id
            (&Method::GET, "/v1/users/{id}") => assert_eq!(answer.json["known"], false, "{case}"),
            (&Method::DELETE, "/v1/items/{id}") => {
                assert_eq!(answer.status, StatusCode::OK, "{case}");
            }
            _ => assert_eq!(answer.status, StatusCode::NOT_FOUND, "{case}"),
        }
    }
    for (list, entries) in [
        ("/v1/decisions", "decisions"),
        ("/v1/quarantine", "quarantine"),
    ] {
        let answer = world.send(Method::GET, list, Some(stranger), "").await;
        assert_eq!(answer.json[entries], json!([]), "{list}");
    }
    let keys = world
        .send(Method::GET, "/v1/keys", Some(stranger), "")
        .await;
    assert!(
        !keys.text.contains(&things.key) && !keys.text.contains("shop"),
        "{}",
        keys.text
    );
    let audit = world
        .send(Method::GET, "/v1/audit", Some(stranger), "")
        .await;
    assert!(
        !audit.text.contains("shop") && !audit.text.contains(&things.key),
        "{}",
        audit.text
    );
    let metrics = world
        .send(Method::GET, "/metrics", Some(stranger), "")
        .await;
    assert!(
        metrics.text.contains("project=\"tools\"") && !metrics.text.contains("shop"),
        "{}",
        metrics.text
    );
    world.catch_up().await;
    assert_eq!(
        world.get("/v1/items/i1").await.json["attributes"]["price"],
        9.5
    );
}
