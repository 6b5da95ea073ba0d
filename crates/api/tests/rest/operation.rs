//! Health, numbers, and what is said about paths and methods that are not there.

use axum::http::{Method, StatusCode};
use serde_json::json;
use tidemill_api::{ApiOptions, ErrorCode, PROBLEM_JSON, routes};
use tidemill_store::catalog::Scope;

use crate::world::{Setting, World, world};

#[tokio::test]
async fn the_server_says_whether_it_is_ready() {
    let options = ApiOptions {
        features_lag_max: 1,
        ..ApiOptions::default()
    };
    let world = World::new(Setting {
        options,
        full: false,
    })
    .await;
    assert_eq!(
        world.send(Method::GET, "/health/live", None, "").await.json,
        json!({ "status": "live" })
    );
    let ready = async || world.send(Method::GET, "/health/ready", None, "").await;
    assert_eq!(
        ready().await.json["projects"]["shop"],
        json!({ "ready": true, "loop_alive": true, "features_lag": 0 })
    );

    for id in ["m1", "m2"] {
        world
            .post(
                Scope::Write,
                "/v1/track",
                json!({ "userId": "u1", "event": "Seen", "messageId": id }),
            )
            .await;
    }
    let behind = ready().await;
    assert_eq!(
        (behind.status, &behind.json["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("not_ready"))
    );
    assert_eq!(behind.json["projects"]["shop"]["features_lag"], 2);
    world.catch_up().await;
    assert_eq!(ready().await.status, StatusCode::OK);

    let task = tokio::spawn(async {});
    world
        .app
        .watch_tasks(&"shop".parse().unwrap(), std::slice::from_ref(&task));
    task.await.unwrap();
    let dead = ready().await;
    assert_eq!(
        (dead.status, &dead.json["projects"]["shop"]["loop_alive"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false))
    );
    assert_eq!(dead.json["projects"]["tools"]["ready"], true);
}

#[tokio::test]
async fn numbers_are_counted() {
    let world = world().await;
    world
        .post(
            Scope::Write,
            "/v1/track",
            json!({ "userId": "u1", "event": "Seen", "messageId": "m1" }),
        )
        .await;
    world
        .post(
            Scope::Write,
            "/v1/track",
            json!({ "userId": "u1", "event": "Seen", "messageId": "m1" }),
        )
        .await;
    world
        .post(Scope::Write, "/v1/track", json!({ "event": "Seen" }))
        .await;
    world
        .post(
            Scope::Read,
            "/v1/predict/will_return",
            json!({ "user": "u1" }),
        )
        .await;
    let metrics = world.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    for line in [
        r#"tidemill_events_total{project="shop",result="accepted"} 1"#,
        r#"tidemill_events_total{project="shop",result="duplicate"} 1"#,
        r#"tidemill_events_total{project="shop",result="quarantined_missing_field"} 1"#,
        r#"tidemill_answers_total{project="shop",model="will_return",version="fallback_no_version"} 1"#,
        r#"tidemill_http_requests_total{route="/v1/track",status="200"} 3"#,
        r#"tidemill_features_lag{project="shop"} 1"#,
    ] {
        assert!(
            metrics.text.contains(line),
            "{line} is not in\n{}",
            metrics.text
        );
    }
}

#[tokio::test]
async fn on_loopback_numbers_need_no_key() {
    let options = ApiOptions {
        open_metrics: true,
        ..ApiOptions::default()
    };
    let world = World::new(Setting {
        options,
        full: false,
    })
    .await;
    let open = world.send(Method::GET, "/metrics", None, "").await;
    assert_eq!(open.status, StatusCode::OK, "{}", open.text);
    assert!(
        open.text.contains("project=\"shop\"") && open.text.contains("project=\"tools\""),
        "{}",
        open.text
    );
    assert_eq!(
        world
            .send(Method::GET, "/metrics", Some("nonsense"), "")
            .await
            .status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_as_a_problem() {
    let world = world().await;
    let unknown = world.send(Method::GET, "/v1/modles", None, "").await;
    assert_eq!(
        (unknown.status, unknown.code()),
        (StatusCode::NOT_FOUND, "unknown_route")
    );
    assert_eq!(
        (unknown.header("content-type"), &unknown.json["hint"]),
        (PROBLEM_JSON, &json!("did you mean '/v1/models'?"))
    );
    let wrong = world.send(Method::DELETE, "/v1/track", None, "").await;
    assert_eq!(
        (wrong.status, wrong.code()),
        (StatusCode::METHOD_NOT_ALLOWED, "wrong_method")
    );
    assert!(
        wrong.header("allow").contains("POST"),
        "{:?}",
        wrong.headers
    );
}

#[tokio::test]
async fn the_server_describes_itself() {
    let world = world().await;
    let index = world.send(Method::GET, "/", None, "").await;
    for route in routes()
        .iter()
        .filter(|route| route.method != Method::OPTIONS)
    {
        let row =
            json!({ "method": route.method.as_str(), "path": route.path, "needs": route.needs() });
        assert!(
            index.json["routes"].as_array().unwrap().contains(&row),
            "{row}"
        );
    }
    for code in ErrorCode::ALL {
        let page = world
            .send(Method::GET, &format!("/errors/{code}"), None, "")
            .await;
        assert_eq!(
            (page.status, page.text.as_str()),
            (StatusCode::OK, code.page())
        );
    }
    assert_eq!(
        world
            .send(Method::GET, "/errors/nonsense", None, "")
            .await
            .code(),
        "unknown_route"
    );
}

#[test]
fn the_reference_names_every_route() {
    let reference = include_str!("../../../../docs/api.md");
    for route in routes().iter().filter(|route| {
        !matches!(
            route.access,
            tidemill_api::Access::Events | tidemill_api::Access::Open
        )
    }) {
        // the longest part of the path without parameters
        let fixed = route.path.split('{').next().unwrap().trim_end_matches('/');
        let last = route.path.rsplit('/').next().unwrap();
        assert!(
            reference.contains(fixed) && (last.contains('{') || reference.contains(last)),
            "{} {}",
            route.method,
            route.path
        );
    }
}

#[tokio::test]
async fn tables_are_asked_in_sql() {
    let world = world().await;
    let ask = async |sql: &str| {
        let question = json!({ "sql": sql });
        world.post(Scope::Read, "/v1/sql", question).await
    };
    for id in ["m1", "m2"] {
        let event =
            json!({ "userId": "u1", "event": "Seen", "messageId": id, "properties": { "n": 3 } });
        world.post(Scope::Write, "/v1/track", event).await;
    }
    for project in world.app.projects.values() {
        project.land(true).await.unwrap();
    }
    let tables = world.get("/v1/sql").await.json;
    assert_eq!(tables["tables"][0]["name"], "events", "{tables}");
    let column = json!({ "name": "offset", "kind": "number" });
    assert_eq!(tables["tables"][0]["columns"][0], column);

    let sql = "SELECT name, sum((properties ->> 'n')::int) AS n, max(group_id) FROM events WHERE name = 'Seen' GROUP BY name";
    let answer = ask(sql).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.json["rows"], json!([["Seen", "6", null]]));
    assert_eq!(answer.json["more"], false);

    let refused = ask("DELETE FROM events").await;
    assert_eq!(
        (refused.status, &refused.json["code"]),
        (
            StatusCode::BAD_REQUEST,
            &json!(ErrorCode::BadExpression.as_str())
        )
    );
    assert!(
        refused.json["hint"]
            .as_str()
            .unwrap()
            .contains("docs/sql.md")
    );
    let writer = world
        .post(Scope::Write, "/v1/sql", json!({ "sql": "SELECT 1" }))
        .await;
    assert_eq!(writer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_quarantine_is_tried_again() {
    let world = world().await;
    let sent = world
        .post(
            Scope::Write,
            "/v1/track",
            json!({ "userId": "u1", "event": "" }),
        )
        .await;
    assert_eq!(sent.json["quarantined"], 1, "{}", sent.text);
    let replay = async |scope| world.post(scope, "/v1/quarantine/replay", "").await;
    assert_eq!(replay(Scope::Read).await.status, StatusCode::FORBIDDEN);
    let replayed = replay(Scope::Admin).await.json;
    assert_eq!(
        (&replayed["accepted"], &replayed["still_bad"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(replayed["reasons"][0][0], 1, "{replayed}");
    let left = world.get("/v1/quarantine").await.json;
    assert_eq!(left["quarantine"].as_array().map(Vec::len), Some(1));
}
