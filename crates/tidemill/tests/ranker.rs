//! The ranker against the real binary: what is known of a person orders their list, from the first event on.

mod support;

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span};

use support::{Scope, Server, wait_until};

const PROJECT: &str = r#"
[project]
name = "library"

[items]
id = "properties.book"

[[features.user]]
name = "language"
aggregate = "last"
type = "category"
value = "properties.language"

[models.for_you]
kind     = "recommend"
signals  = { Viewed = 1.0, Lent = 3.0 }
features = ["user.language"]
training = { budget = 0.1 }

[sources.history]
map = { user_id = "user", timestamp = "at", name = "event", "properties.book" = "book", "properties.language" = "language" }
"#;

const PEOPLE: u64 = 1_200;
const LANGUAGES: [&str; 2] = ["fr", "de"];

/// Everybody looks at the same pictures, and then lends books in their language, most in French: the pictures do not tell which.
fn history() -> String {
    let mut csv = "user,at,event,book,language\n".to_owned();
    let end = SystemClock.now() - Span::from_days(1);
    let mut random = 1u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (random >> 33) % bound
    };
    let mut lines = Vec::new();
    for person in 0..PEOPLE {
        let language = LANGUAGES[usize::from(person % 4 == 0)];
        let first = 40 + below(60);
        for _ in 0..3 {
            let at = end - Span::from_seconds((first * 86_400 + below(3_600)) as i64);
            lines.push((
                at,
                person,
                "Viewed",
                format!("picture{}", below(8)),
                language,
            ));
        }
        let then = below(first * 86_400);
        for _ in 0..3 {
            let at = end - Span::from_seconds((then + below(3_600)) as i64);
            lines.push((
                at,
                person,
                "Lent",
                format!("{language}{}", below(6)),
                language,
            ));
        }
    }
    lines.sort();
    for (at, person, event, book, language) in lines {
        writeln!(csv, "p{person},{at},{event},{book},{language}").expect("a string grows");
    }
    csv
}

#[test]
fn what_is_known_of_a_person_orders_their_list() {
    let mut server = Server::start(PROJECT, &[]);
    assert!(server.stop(Duration::from_secs(20)).success());
    std::fs::write(server.folder().join("history.csv"), history()).expect("the history");
    let source = ["--source", "history", "--project", "project.toml"];
    server.told(&[&["import", "history.csv"], &source[..]].concat());
    server.restart();
    let [read, write] = [Scope::Read, Scope::Write].map(|scope| server.key(scope));
    server.json_of(&["train", "for_you", "--project", "project.toml"]);
    let get = |path: &str| {
        let (status, answer) = server.get(path, &read);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let model = get("/v1/models/for_you");
    let ranker = &model["last_run"]["detail"]["record"]["ranker"];
    assert_eq!(ranker["kept"], true, "{model:#}");
    assert!(
        ranker["ranked"].as_f64() > ranker["blend"].as_f64(),
        "{ranker:#}"
    );

    // two people who are new and look at the same picture
    for language in LANGUAGES {
        let body = json!({ "userId": language, "event": "Viewed", "properties": { "book": "picture1", "language": language } });
        let (status, answer) = server.post("/v1/track", &write, &body);
        assert_eq!(status, 200, "{answer}");
    }
    let ask = |user: &str| {
        let body = json!({ "user": user, "limit": 5 });
        let (status, answer) = server.post("/v1/recommend/for_you", &read, &body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let own = |answer: &Value, language: &str| {
        let items = answer["items"].as_array().into_iter().flatten();
        let items = items.filter_map(|item| item["item"].as_str());
        items.filter(|item| item.starts_with(language)).count()
    };
    for language in LANGUAGES {
        wait_until(|| own(&ask(language), language) >= 4);
    }
    // what was read of the person is part of the decision
    let id = ask("fr")["decision_id"].as_str().expect("an id").to_owned();
    let explained = get(&format!("/v1/decisions/{id}"));
    let feature = &explained["features"][0];
    assert_eq!(
        (&feature["name"], &feature["value"]),
        (&json!("user.language"), &json!("fr")),
        "{explained:#}"
    );
    // nobody has to be known
    assert_eq!(ask("nobody")["items"].as_array().map(Vec::len), Some(5));
}
