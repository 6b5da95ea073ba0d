//! What a newcomer does wrong on the first day, against the real binary: every mistake gets a message that names the
//! place and the remedy, nothing is lost, and nothing panics.

mod support;

use serde_json::{Value, json};

use support::{PROJECT, Scope, Server, run};

/// A project with one question, and no features: they are suggested from events.
const QUESTION: &str = r#"
[project]
name = "shop"

[models.will_return]
kind    = "predict"
entity  = "user"
observe = { event = "Order Completed" }
target  = { event = "Order Completed", within = "30d" }
"#;

/// A problem as every route answers it: the code of the error page, and a body that says what to do.
fn check_problem(server: &Server, request: (&str, &str, &str, &str), status: u16, code: &str) {
    let (method, path, key, body) = request;
    let (answered, text) = server.ask(method, path, key, body);
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
    assert_eq!(
        (answered, problem["code"].as_str()),
        (status, Some(code)),
        "{path}: {problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{path}: {problem}"
    );
    let (status, page) = server.ask("GET", &format!("/errors/{code}"), "", "");
    assert_eq!(status, 200, "the page of {code}");
    assert!(page.contains("What to do"), "the page of {code}: {page}");
}

#[test]
fn a_wrong_request_is_answered_with_what_to_do() {
    let mut server = Server::start(QUESTION, &[]);
    let [write, read] = [Scope::Write, Scope::Read].map(|scope| server.key(scope));
    let track = r#"{"userId": "u1", "event": "Order Completed"}"#;
    let ask = r#"{"user": "u1"}"#;
    for (request, status, code) in [
        (("POST", "/v1/track", "", track), 401, "no_key"),
        (
            ("POST", "/v1/track", "tm_w_nonsense", track),
            401,
            "unknown_key",
        ),
        (("POST", "/v1/track", &*read, track), 403, "wrong_scope"),
        (
            ("POST", "/v1/track", &*write, r#"{"userId": "u1", "#),
            400,
            "unreadable_body",
        ),
        (("POST", "/v1/batch", &*write, "{}"), 400, "batch_absent"),
        (
            ("POST", "/v1/predict/will_return", &*write, ask),
            403,
            "wrong_scope",
        ),
        (
            ("POST", "/v1/predict/will_retrun", &*read, ask),
            404,
            "unknown_model",
        ),
        (
            ("POST", "/v1/predict/will_return", &*read, "{}"),
            400,
            "nobody",
        ),
        (
            ("POST", "/v1/predict/will_return", &*read, "user=u1"),
            400,
            "unreadable_body",
        ),
        (
            ("GET", "/v1/predict/will_return", &*read, ""),
            405,
            "wrong_method",
        ),
        (("GET", "/v1/predictions", &*read, ""), 404, "unknown_route"),
        (
            ("GET", "/v1/decisions/never", &*read, ""),
            404,
            "unknown_decision",
        ),
        (
            ("GET", "/v1/decisions?limit=many", &*read, ""),
            400,
            "bad_query",
        ),
        (
            ("GET", "/v1/models/will_return/versions/7", &*read, ""),
            404,
            "unknown_version",
        ),
    ] {
        check_problem(&server, request, status, code);
    }
    let (_, problem) = server.post("/v1/predict/will_retrun", &read, &json!({ "user": "u1" }));
    assert_eq!(problem["hint"], "did you mean 'will_return'?", "{problem}");

    // nothing of all that was stored, and the server is as it was
    let (status, counts) = server.get("/v1/events/counts", &read);
    assert_eq!(
        (status, counts["stored"].as_u64()),
        (200, Some(0)),
        "{counts}"
    );
    let (status, receipt) = server.post(
        "/v1/track",
        &write,
        &json!({ "userId": "u1", "event": "Order Completed" }),
    );
    assert_eq!(
        (status, &receipt["accepted"]),
        (200, &json!(1)),
        "{receipt}"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(server.stop(std::time::Duration::from_secs(20)).success());
}

#[test]
fn what_is_not_an_event_is_kept_with_the_reason() {
    let server = Server::start(PROJECT, &[]);
    let [write, read] = [Scope::Write, Scope::Read].map(|scope| server.key(scope));
    let batch = json!({ "batch": [
        { "type": "track", "userId": "u1", "event": "Order Completed" },
        { "type": "track", "event": "Order Completed" },
        { "type": "track", "userId": "u1", "event": "Order Completed", "timestamp": "yesterday" },
        { "type": "purchase", "userId": "u1" },
        17
    ]});
    let (status, receipt) = server.post("/v1/batch", &write, &batch);
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(
        (&receipt["accepted"], &receipt["quarantined"]),
        (&json!(1), &json!(4)),
        "{receipt}"
    );
    let (_, quarantine) = server.get("/v1/quarantine", &read);
    let pieces = quarantine["quarantine"].as_array().expect("a list");
    assert_eq!(pieces.len(), 4, "{quarantine}");
    for piece in pieces {
        for field in ["reason", "detail", "body"] {
            assert!(
                piece[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field} of {piece}"
            );
        }
    }
}

#[test]
fn an_empty_project_answers_and_says_what_it_lacks() {
    let server = Server::start(QUESTION, &[]);
    let [read, admin] = [Scope::Read, Scope::Admin].map(|scope| server.key(scope));
    let (status, answer) = server.post("/v1/predict/will_return", &read, &json!({ "user": "u1" }));
    assert_eq!(
        (status, answer["fallback"].as_str()),
        (200, Some("no_version")),
        "{answer}"
    );
    assert!(answer["decision_id"].is_string(), "{answer}");
    let (status, trained) =
        server.post("/v1/models/will_return/train?wait=true", &admin, &json!({}));
    assert_eq!(status, 200, "{trained}");
    assert_eq!(trained["runs"][0]["state"], "skipped", "{trained}");
    let data = server.data();
    let doctor = run(
        server.folder(),
        &["doctor", "--data", &data.to_string_lossy()],
    );
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("no events"), "{said}");
}

#[test]
fn what_a_running_server_holds_is_refused_with_the_remedy() {
    let server = Server::start(QUESTION, &[]);
    let file = server.project_file();
    let file = file.to_string_lossy();
    let address = server.address().to_string();

    check_failure(
        &server,
        &[
            "serve",
            "--project",
            &file,
            "--data",
            "elsewhere",
            "--listen",
            &address,
        ],
        &[&address, "is another server running there?", "--listen"],
    );
    assert!(
        !server.folder().join("elsewhere").exists(),
        "a data folder was made before the address was known to be free"
    );
    let data = server.data();
    check_failure(
        &server,
        &[
            "serve",
            "--project",
            &file,
            "--data",
            &data.to_string_lossy(),
            "--listen",
            "127.0.0.1:0",
        ],
        &[&data.to_string_lossy(), "another process"],
    );
    std::fs::write(
        server.folder().join("orders.csv"),
        "userId,event\nu1,Order Completed\n",
    )
    .expect("a file");
    check_failure(
        &server,
        &[
            "import",
            "orders.csv",
            "--project",
            &file,
            "--data",
            &data.to_string_lossy(),
        ],
        &[&data.to_string_lossy(), "another process"],
    );
}

#[test]
fn a_corrupt_project_file_is_told_with_every_mistake_and_its_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |text: &str| {
        std::fs::write(folder.path().join("shop.toml"), text).expect("the project file");
    };
    write("[project]\nname = \"shop\"\n[models.will_return\n");
    for command in ["check", "serve"] {
        let failed = failure(folder.path(), &[command, "--project", "shop.toml"]);
        assert!(failed.contains("line 3"), "{failed}");
    }
    write(
        &QUESTION
            .replace("observe", "obsreve")
            .replace("30d", "30 moons"),
    );
    for command in ["check", "serve"] {
        let failed = failure(folder.path(), &[command, "--project", "shop.toml"]);
        for part in ["line 8", "did you mean 'observe'", "line 9", "30 moons"] {
            assert!(failed.contains(part), "no '{part}' in: {failed}");
        }
    }
    let failed = failure(folder.path(), &["serve", "--project", "absent.toml"]);
    assert!(failed.contains("absent.toml"), "{failed}");
    let failed = failure(folder.path(), &["train", "will_return"]);
    assert!(failed.contains("there is no data folder"), "{failed}");
    assert!(
        !folder.path().join("tidemill-data").exists() && !folder.path().join("data").exists(),
        "a data folder was made for a project that cannot be opened"
    );
}

fn check_failure(server: &Server, arguments: &[&str], parts: &[&str]) {
    let failed = failure(server.folder(), arguments);
    for part in parts {
        assert!(failed.contains(part), "no '{part}' in: {failed}");
    }
}

/// What a command says that fails, in words and not by a panic.
fn failure(folder: &std::path::Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    said
}
