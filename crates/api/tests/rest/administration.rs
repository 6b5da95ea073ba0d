//! Models, keys and the audit log.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tidemill_api::KeyRing;
use tidemill_core::Timestamp;
use tidemill_core::clock::Stopwatch;
use tidemill_store::catalog::{AuditEntry, Scope};

use crate::world::world;

#[tokio::test]
async fn models_are_shown_before_they_have_versions() {
    let world = world().await;
    let models = world.get("/v1/models").await;
    assert_eq!(
        models.json["models"].as_array().map(Vec::len),
        Some(2),
        "{}",
        models.text
    );
    let recommender = world.get("/v1/models/for_you").await;
    let shown = ["kind", "champion", "fallback"].map(|field| &recommender.json[field]);
    assert_eq!(shown, [&json!("recommend"), &Value::Null, &Value::Null]);
    let model = world.get("/v1/models/will_return").await;
    assert_eq!(
        model.json["question"], "Will they order again?",
        "{}",
        model.text
    );
    assert_eq!(model.json["champion"], Value::Null);
    assert_eq!(
        world.get("/v1/models/will_return/versions").await.json,
        json!({ "versions": [] })
    );
    assert_eq!(
        world.get("/v1/models/will_return/runs").await.json,
        json!({ "runs": [] })
    );
    for (path, code) in [
        ("/v1/models/will_retrun", "unknown_model"),
        ("/v1/models/will_return/versions/1", "unknown_version"),
        ("/v1/models/will_return/versions/x", "unknown_version"),
        ("/v1/models/will_return/runs/x", "unknown_run"),
        (
            "/v1/models/will_return/runs/0190a0b0-0000-7000-8000-000000000000",
            "unknown_run",
        ),
    ] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::NOT_FOUND, code),
            "{path}"
        );
    }
}

#[tokio::test]
async fn training_can_be_waited_for() {
    let world = world().await;
    let trained = world
        .post(Scope::Admin, "/v1/models/will_return/train?wait=true", "")
        .await;
    assert_eq!(trained.status, StatusCode::OK, "{}", trained.text);
    let run = &trained.json["runs"][0];
    // an empty project has too little to learn from, and that is said
    assert_eq!(
        (&run["state"], &run["trigger"]),
        (&json!("skipped"), &json!("person")),
        "{}",
        trained.text
    );
    assert!(
        run["summary"]
            .as_str()
            .is_some_and(|summary| !summary.is_empty())
    );
    let listed = world.get("/v1/models/will_return/runs").await;
    let mut line = run.clone();
    line.as_object_mut().unwrap().remove("detail");
    assert_eq!(listed.json["runs"], json!([line]), "{}", listed.text);
    let one = world
        .get(&format!(
            "/v1/models/will_return/runs/{}",
            run["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(one.json, *run, "{}", one.text);
    assert!(one.json["detail"]["dataset"].is_object(), "{}", one.text);

    let accepted = world
        .post(Scope::Admin, "/v1/models/will_return/train", "")
        .await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text);
    assert_eq!(accepted.header("location"), "/v1/models/will_return/runs");
}

#[tokio::test]
async fn versions_are_changed_only_where_that_is_possible() {
    let world = world().await;
    let promote = world
        .post(
            Scope::Admin,
            "/v1/models/will_return/promote",
            json!({ "version": 1 }),
        )
        .await;
    assert_eq!(
        (promote.status, promote.code()),
        (StatusCode::NOT_FOUND, "unknown_version"),
        "{}",
        promote.text
    );
    let shapeless = world
        .post(Scope::Admin, "/v1/models/will_return/promote", json!({}))
        .await;
    assert_eq!(
        (shapeless.code(), &shapeless.json["field"]),
        ("wrong_shape", &json!("version"))
    );
    let rollback = world
        .post(
            Scope::Admin,
            "/v1/models/will_return/rollback",
            json!({ "reason": "x" }),
        )
        .await;
    assert_eq!(
        (rollback.status, rollback.code()),
        (StatusCode::CONFLICT, "not_allowed"),
        "{}",
        rollback.text
    );
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let world = world().await;
    let admin = world.key("shop", Scope::Admin);
    let created = world
        .post(Scope::Admin, "/v1/keys", json!({ "scope": "read" }))
        .await;
    assert_eq!(
        (created.status, created.header("cache-control")),
        (StatusCode::CREATED, "no-store")
    );
    let secret = created.json["secret"].as_str().unwrap();
    let id = created.json["id"].as_str().unwrap();
    assert!(
        secret.starts_with("tm_r_") && secret.len() == 48 && secret.starts_with(id),
        "{secret}"
    );
    // it works at once
    assert_eq!(
        world
            .send(Method::GET, "/v1/models", Some(secret), "")
            .await
            .status,
        StatusCode::OK
    );

    let stored = world.stores.catalog.keys().await.unwrap();
    let key = stored.iter().find(|key| key.id == id).unwrap();
    assert!(!format!("{stored:?}").contains(secret));
    assert_eq!(key.hash.len(), 64);
    let listed = world.send(Method::GET, "/v1/keys", Some(admin), "").await;
    assert_eq!(
        listed.json["keys"].as_array().map(Vec::len),
        Some(4),
        "{}",
        listed.text
    );
    assert!(
        !listed.text.contains(&key.hash) && !listed.text.contains(secret),
        "{}",
        listed.text
    );

    let foreign = world
        .send(
            Method::DELETE,
            &format!("/v1/keys/{id}"),
            Some(world.key("tools", Scope::Admin)),
            "",
        )
        .await;
    assert_eq!(
        (foreign.status, foreign.code()),
        (StatusCode::NOT_FOUND, "unknown_access_key")
    );
    let revoked = world
        .send(Method::DELETE, &format!("/v1/keys/{id}"), Some(admin), "")
        .await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text);
    let after = world
        .send(Method::GET, "/v1/models", Some(secret), "")
        .await;
    assert_eq!(
        (after.status, after.code()),
        (StatusCode::UNAUTHORIZED, "unknown_key")
    );

    let audit = world
        .send(Method::GET, "/v1/audit?limit=2", Some(admin), "")
        .await;
    let entries = audit.json["audit"].as_array().unwrap();
    let actions: Vec<&str> = entries
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["revoke_key", "create_key"], "{}", audit.text);
    for entry in entries {
        assert_eq!(entry["subject"], id);
        assert_eq!(entry["actor"], format!("key {}", &admin[..13]));
    }
    assert!(!audit.text.contains(secret));
    let scopeless = world
        .post(Scope::Admin, "/v1/keys", json!({ "scope": "root" }))
        .await;
    assert_eq!(
        (scopeless.status, scopeless.code()),
        (StatusCode::BAD_REQUEST, "wrong_shape")
    );
}

#[tokio::test]
async fn a_key_that_was_revoked_elsewhere_stops_working_within_a_second() {
    let world = world().await;
    let ring = KeyRing::open(world.stores.catalog.clone()).await.unwrap();
    let secret = world.key("shop", Scope::Read);
    let key = ring.find(secret).await.expect("a key that works");
    let audit = AuditEntry {
        at: Timestamp::EPOCH,
        project: Some(key.project.clone()),
        actor: "test".to_owned(),
        action: "revoke_key".to_owned(),
        subject: key.id.clone(),
        reason: String::new(),
    };
    world
        .stores
        .catalog
        .revoke_key(&key.project, &key.id, Timestamp::EPOCH, audit)
        .await
        .unwrap();
    let revoked = Stopwatch::start();
    while ring.find(secret).await.is_some() {
        assert!(revoked.seconds() < 2.0, "it still works"); // a second, and what a busy machine may add
        tokio::task::yield_now().await;
    }
}
