//! Datasets: built, listed, looked at, compared, downloaded.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidemill_store::catalog::Scope;

use crate::world::{World, world};

const DATASETS: &str = "/v1/models/will_return/datasets";

async fn build(world: &World, query: &str) -> Value {
    let built = world
        .post(Scope::Admin, &format!("{DATASETS}?wait=true{query}"), "")
        .await;
    assert_eq!(built.status, StatusCode::CREATED, "{}", built.text);
    let path = format!("{DATASETS}/{}", built.json["version"]);
    assert_eq!(built.header("location"), path);
    built.json
}

#[tokio::test]
async fn datasets_are_built_listed_and_shown() {
    let world = world().await;
    assert_eq!(world.get(DATASETS).await.json, json!({ "datasets": [] }));
    for order in ["o1", "o2"] {
        let order = json!({ "userId": "u1", "event": "Order Completed", "messageId": order });
        world.post(Scope::Write, "/v1/track", order).await;
    }
    let built = build(&world, "").await;
    // the month in which they might order again has not passed
    let record = &built["record"];
    assert_eq!(
        (
            &record["observed"],
            &record["dropped"]["censored"],
            &record["rows"]
        ),
        (&json!(2), &json!(2), &json!(0)),
        "{built}"
    );
    assert!(built.get("identical").is_none(), "{built}");
    let shown = world.get(&format!("{DATASETS}/{}", built["version"])).await;
    assert_eq!((shown.status, &shown.json), (StatusCode::OK, &built));

    let again = build(&world, &format!("&again={}", built["version"])).await;
    assert_eq!(
        (&again["identical"], &again["again"]),
        (&json!(true), &built["version"]),
        "{again}"
    );
    assert_eq!(again["record"], built["record"]);
    let list = world.get(&format!("{DATASETS}?limit=1")).await;
    let line = &list.json["datasets"][0];
    assert_eq!(line["dataset"], format!("will_return@{}", again["version"]));
    assert_eq!(
        (&line["has_rows"], &line["observed"]),
        (&json!(true), &json!(2))
    );
    let cursor = list.json["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{DATASETS}?cursor={cursor}")).await;
    assert_eq!(rest.json["datasets"][0]["version"], built["version"]);
    assert_eq!(rest.json["datasets"].as_array().map(Vec::len), Some(1));

    let accepted = world.post(Scope::Admin, DATASETS, "").await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text);
    assert_eq!(accepted.header("location"), DATASETS);
}

#[tokio::test]
async fn rows_are_downloaded_and_compared() {
    let world = world().await;
    let (first, second) = (build(&world, "").await, build(&world, "").await);
    let (first, second) = (&first["version"], &second["version"]);
    let rows = world
        .get(&format!("{DATASETS}/{first}/rows?format=csv"))
        .await;
    assert_eq!(
        (rows.status, rows.text.as_str()),
        (
            StatusCode::OK,
            "entity,moment,offset,target,weight,user.orders_30d\n"
        )
    );
    assert_eq!(rows.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(
        rows.header("content-disposition"),
        format!("attachment; filename=\"will_return-{first}.csv\"")
    );
    let diff = world
        .get(&format!("{DATASETS}/{first}/diff/{second}"))
        .await;
    assert_eq!(diff.status, StatusCode::OK, "{}", diff.text);
    assert_eq!(diff.json["features"][0]["psi"], 0.0, "{}", diff.text);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let world = world().await;
    let built = build(&world, "").await;
    let version = &built["version"];
    for (path, status, code) in [
        (format!("{DATASETS}/99"), 404, "unknown_dataset"),
        (format!("{DATASETS}/x"), 404, "unknown_dataset"),
        (format!("{DATASETS}/99/rows"), 404, "unknown_dataset"),
        (
            format!("{DATASETS}/{version}/rows?format=xml"),
            400,
            "bad_query",
        ),
        (
            format!("{DATASETS}/{version}/diff/99"),
            404,
            "unknown_dataset",
        ),
        (
            "/v1/models/will_retrun/datasets".to_owned(),
            404,
            "unknown_model",
        ),
        (
            "/v1/features/report?model=will_retrun".to_owned(),
            404,
            "unknown_model",
        ),
    ] {
        let answer = world.get(&path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, code),
            "{path}"
        );
    }
    let again = world
        .post(Scope::Admin, &format!("{DATASETS}?again=99"), "")
        .await;
    assert_eq!(again.code(), "unknown_dataset", "{}", again.text);
}

#[tokio::test]
async fn features_are_reported_before_there_is_anything_to_say() {
    let world = world().await;
    let report = world.get("/v1/features/report").await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text);
    let feature = &report.json["features"][0];
    assert_eq!(feature["name"], "user.orders_30d");
    assert_eq!(
        (
            &feature["values"],
            &feature["newest_event"],
            &feature["read_us"]
        ),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        feature["models"],
        json!([{ "model": "will_return", "version": null, "gain": null }])
    );
    assert_eq!(report.json["unused"], json!([]));

    let order = json!({ "userId": "u1", "event": "Order Completed", "messageId": "o1" });
    world.post(Scope::Write, "/v1/track", order).await;
    world.catch_up().await;
    let report = world.get("/v1/features/report?model=will_return").await;
    let feature = &report.json["features"][0];
    assert!(feature["state_bytes"].as_f64().unwrap() > 0.0, "{feature}");
    assert_eq!(
        (&feature["age_seconds"], &report.json["persons"]),
        (&json!(0.0), &json!(1))
    );
    let seen = world.get("/v1/events/seen").await;
    assert_eq!(
        seen.json["events"]["Order Completed"]["persons"], 1,
        "{}",
        seen.text
    );
}
