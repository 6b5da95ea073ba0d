//! The console in a real browser: Debian's Chromium, driven by Playwright (`tests/console/test.js`), against the real
//! binary with a trained model, and with texts in every field that would run if they were taken for HTML.
//!
//! `scripts/install-test-tools` installs Playwright and axe; where these or Chromium are absent the test says so and
//! passes, unless `TIDEMILL_REQUIRE_ALL` is set.

mod support;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span};

use support::console::Visitor;
use support::{Scope, Server, console, rollouts, skip, tools};

/// A text that sets a variable which the test looks for, should it ever run.
const EVIL: &str =
    r#""'><img src=x onerror="window.ranByAccident=1"><script>window.ranByAccident=1</script>"#;

/// How such texts begin and end; put together they make a hundred.
const OPENINGS: [&str; 10] = [
    "",
    "\"",
    "'",
    "\">",
    "'>",
    "-->",
    "</td>",
    "</textarea>",
    "</title>",
    "]]>",
];
const PAYLOADS: [&str; 10] = [
    "<script>window.ranByAccident=1</script>",
    "<img src=x onerror=window.ranByAccident=1>",
    "<svg onload=window.ranByAccident=1>",
    "<details open ontoggle=window.ranByAccident=1>",
    "<input autofocus onfocus=window.ranByAccident=1>",
    "<iframe srcdoc='<script>parent.ranByAccident=1</script>'></iframe>",
    "<a href='javascript:window.ranByAccident=1'>x</a>",
    "<body onload=window.ranByAccident=1>",
    " onmouseover=window.ranByAccident=1 autofocus onfocus=window.ranByAccident=1 ",
    "<style>@import 'http://evil.example/x.css'</style>",
];

const PROJECT: &str = r#"
[project]
name = "shop"

[items]
id = "properties.product"
attributes = { name = "string?", note = "string?" }

[[features.user]]
name      = "orders"
label     = "orders <script>window.ranByAccident=1</script>"
aggregate = "count"
event     = "Order Completed"
windows   = ["30d"]

[[features.user]]
name      = "channel"
aggregate = "last"
type      = "category"
value     = "properties.channel"

[models.will_return]
kind     = "predict"
question = "<img src=x onerror=window.ranByAccident=1> Will they order again?"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "30d" }
training = { budget = 0.1 }

[models.comes_back]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "20d" }
training = { budget = 0.1 }
rollout  = { shadow = "1h", canary = [0.1, 0.5], step = "1h" }

[models.stays_on]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "25d" }
training = { budget = 0.1 }
rollout  = { shadow = "1h", canary = [0.1, 0.5], step = "1h" }

[models.for_you]
kind     = "recommend"
signals  = { "Order Completed" = 1.0 }
segment  = "user.channel"
training = { budget = 0.1 }

[sources.orders]
event = "Order Completed"
map   = { user_id = "customer", timestamp = "ordered_at", message_id = "order", "properties.total" = "total", "properties.product" = "product" }
"#;

#[test]
fn people_use_the_console_in_a_browser() {
    let packages = tools().join("console/node_modules");
    if !packages.join("playwright-core/package.json").exists() {
        return skip("playwright-core is not installed (run scripts/install-test-tools)");
    }
    let chromium =
        std::env::var_os("TIDEMILL_CHROMIUM").map_or("/usr/bin/chromium".into(), PathBuf::from);
    if !chromium.exists() {
        return skip("there is no chromium (apt-get install chromium)");
    }
    let mut server = Server::start(PROJECT, &[]);
    let (taking_over, to_promote) = fill(&mut server);
    let link = link(&server, "admin");
    let told = json!({
        "url": server.url(), "project": "shop", "links": { "admin": link },
        "person": EVIL, "item": EVIL, "model": "will_return", "recommender": "for_you", "taken": "comes_back", "version": taking_over,
        "promoted": "stays_on", "next": to_promote, "event": EVIL,
    });
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/console/test.js"))
        .arg(told.to_string())
        .env("NODE_PATH", packages)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "{said}{}{}",
        String::from_utf8_lossy(&output.stderr),
        server.log()
    );
}

#[test]
fn users_are_managed_beside_a_running_server() {
    let server = Server::start(PROJECT, &[]);
    let data = server.data().to_string_lossy().into_owned();
    let users = |arguments: &[&str]| {
        let all = [&["users"], arguments, &["--data", &data]].concat();
        String::from_utf8_lossy(&server.run(&all).stdout).into_owned()
    };
    let added = users(&["add", "ada@example.com", "--role", "editor"]);
    assert!(
        added.starts_with(&format!("{}/console/sign-in?link=", server.url())),
        "{added}"
    );
    users(&["role", "ada@example.com", "viewer"]);
    let listed = users(&["list"]);
    assert!(
        listed.contains("ada@example.com") && listed.contains("viewer"),
        "{listed}"
    );
    users(&["remove", "ada@example.com"]);
    assert!(!users(&["list"]).contains("ada@example.com"));
    let again = server.refused(&["users", "link", "ada@example.com"]);
    assert!(
        again.contains("there is no user 'ada@example.com'"),
        "{again}"
    );
}

#[test]
fn a_user_sees_the_projects_that_they_were_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let news = folder.path().join("news.toml");
    std::fs::write(&news, "[project]\nname = \"news\"\n").expect("a project file");
    let server = Server::start(support::PROJECT, &["--project", &news.to_string_lossy()]);
    server.told(&["users", "add", "bob", "--role", "editor"]);
    let (admin, bob) = (
        Visitor::sign_in(&server, "admin"),
        Visitor::sign_in(&server, "bob"),
    );
    assert_eq!(bob.get("/console/p/news").status, 200, "all, by default");
    assert!(bob.get("/console/p/shop").text.contains("/console/p/news"));

    let users = "/console/p/shop/settings/users";
    let token = admin.token("/console/p/shop/settings");
    let give = |to: &str, ticked: &[&str]| {
        let fields = [("token", token.as_str()), ("name", to)];
        let ticked = ticked.iter().map(|name| (*name, "yes"));
        let fields: Vec<_> = fields.into_iter().chain(ticked).collect();
        admin.post(&format!("{users}/projects"), &fields)
    };
    assert_eq!(give("bob", &["project:shop"]).status, 303);
    assert_eq!(give("admin", &["project:shop"]).status, 409);
    assert_eq!(give("eve", &["project:shop"]).status, 404);
    only_shop_is_seen(&bob);
    let listed = server.json_of(&["users", "list"]);
    assert_eq!(listed["users"][1]["projects"], json!(["shop"]));
    let settings = admin.get("/console/p/shop/settings").text;
    assert!(settings.contains("set projects"), "the audit log knows");
    // a change of the role leaves the projects, unless they decide about that themselves
    server.told(&["users", "role", "bob", "viewer"]);
    assert_eq!(bob.get("/console/p/news").status, 404);
    server.told(&["users", "role", "bob", "admin"]);
    assert_eq!(bob.get("/console/p/news").status, 200);
    server.told(&["users", "role", "bob", "editor"]);

    // beside the server, as the operator
    server.told(&["users", "projects", "bob", "news"]);
    assert_eq!(bob.get("/console/p/news").status, 200);
    assert_eq!(bob.get("/console/p/shop").status, 404);
    let refused = server.refused(&["users", "projects", "bob", "blog"]);
    assert!(refused.contains("no project 'blog'"), "{refused}");
    let refused = server.refused(&["users", "projects", "admin", "shop"]);
    assert!(refused.contains("an admin sees all"), "{refused}");
    server.told(&["users", "projects", "bob", "--all"]);
    assert_eq!(bob.get("/console/p/shop").status, 200);

    assert_eq!(give("bob", &[]).status, 303);
    let nothing = bob.get("/console");
    assert_eq!(nothing.status, 403, "{}", nothing.text);
    assert_eq!(bob.get("/console/p/shop").status, 404);
    assert_eq!(give("bob", &["all", "project:shop"]).status, 303);
    assert_eq!(bob.get("/console/p/news").status, 200);
}

/// Every page, export and action of the console, as its router has them, is as if there were no project `news`.
fn only_shop_is_seen(bob: &Visitor) {
    let token = bob.token("/console/p/shop/settings");
    let router = include_str!("../../console/src/lib.rs");
    let (project, _) = router.split_once("let pages").expect("the router");
    let paths: Vec<String> = project
        .split(".route(")
        .skip(1)
        .filter_map(|route| route.split('"').nth(1))
        .map(|path| path.replace(['{', '}'], "").replace("/number", "/1"))
        .collect();
    assert!(paths.len() > 40, "{paths:?}");
    let (mut pages, mut actions) = (0, 0);
    for path in paths {
        let path = format!("/console/p/news{path}");
        let page = bob.get(&path);
        let action = bob.post(&path, &[("token", &token), ("reason", "x")]);
        for answer in [&page, &action] {
            assert!([404, 405].contains(&answer.status), "{path}: {answer:?}");
            assert!(!answer.text.contains("data-project=\"news\""), "{path}");
        }
        pages += usize::from(page.status == 404);
        actions += usize::from(action.status == 404);
    }
    assert!(pages > 25 && actions > 12, "{pages} {actions}");
    let none = bob.get("/console/p/none").text;
    assert_eq!(bob.get("/console/p/news").text, none);
    let home = bob.get("/console");
    assert_eq!(
        (home.status, home.location.as_str()),
        (303, "/console/p/shop")
    );
    let shown = bob.get("/console/p/shop");
    assert_eq!(shown.status, 200);
    assert!(!shown.text.contains("news"), "{}", shown.text);
}

/// A link for a user, as an operator gets one beside the running server.
fn link(server: &Server, user: &str) -> String {
    let data = server.data().to_string_lossy().into_owned();
    let output = server.run(&["users", "link", user, "--json", "--data", &data]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    answer["link"].as_str().expect("a link").to_owned()
}

/// What a customer orders next: each goes on from what they began with.
fn product(customer: i64, order: i64) -> String {
    format!("product {}", (customer * 7 + order * 2) % PRODUCTS)
}

/// How many products there are.
const PRODUCTS: i64 = 40;

/// A history to learn from, and texts in every field that is shown. Returns the numbers of the versions that take over.
fn fill(server: &mut Server) -> (u32, u32) {
    let begin = SystemClock.now() - Span::from_days(430);
    let mut csv = "customer,ordered_at,order,total,product\n".to_owned();
    for customer in 0..300 {
        let mut day = customer % 20;
        for order in 0..12 {
            let _ = writeln!(
                csv,
                "c{customer},{},o{customer}-{order},{},{}",
                begin + Span::from_days(day),
                5 + order,
                product(customer, order)
            );
            // most come again soon, and some seldom: to be learnt from how they came so far
            let is_seldom = (customer * 7 + order * 13) % 5 < if customer % 2 == 0 { 4 } else { 1 };
            day += if is_seldom { 34 } else { 18 };
        }
    }
    std::fs::write(server.folder().join("orders.csv"), csv).expect("the history");
    let project = server.project_file().to_string_lossy().into_owned();
    let data = server.data().to_string_lossy().into_owned();
    server.stop(Duration::from_secs(30));
    server.run(&[
        "import",
        "orders.csv",
        "--project",
        &project,
        "--source",
        "orders",
        "--data",
        &data,
    ]);
    server.restart();
    let (write, read, admin) = (
        server.key(Scope::Write),
        server.key(Scope::Read),
        server.key(Scope::Admin),
    );
    let (status, answer) = server.post(
        "/v1/models/will_return/train?wait=true",
        &admin,
        &Value::Null,
    );
    assert_eq!(status, 200, "{answer}");
    // the schedule may have been faster, and then it is the second
    assert!(answer["runs"][0]["version"].is_string(), "{answer}");

    let known = (0..PRODUCTS).map(|number| json!({ "id": format!("product {number}") }));
    let evil = json!({ "id": EVIL, "attributes": { "name": EVIL, "note": EVIL } });
    let items = json!({ "items": known.chain([evil]).collect::<Vec<_>>() });
    let (status, answer) = server.put("/v1/items", &admin, &items);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.post("/v1/models/for_you/train?wait=true", &admin, &Value::Null);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["runs"][0]["version"].is_string(), "{answer}");
    let texts = OPENINGS
        .iter()
        .flat_map(|opening| PAYLOADS.map(|payload| format!("{opening}{payload}")));
    let texts: Vec<String> = texts.chain([EVIL.to_owned()]).collect();
    assert_eq!(texts.len(), 101);
    for text in &texts {
        // one kind of event is told apart, so that the others' names fill the stream
        let body =
            json!({ "userId": text, "event": text, "properties": { text: text, "channel": text } });
        let (status, answer) = server.post("/v1/track", &write, &body);
        assert_eq!((status, &answer["accepted"]), (200, &json!(1)), "{answer}");
    }
    let order = json!({ "userId": EVIL, "event": "Order Completed", "properties": { "total": 1, "channel": EVIL } });
    server.post("/v1/track", &write, &order);
    server.post(
        "/v1/track",
        &write,
        &json!({ "userId": EVIL, "event": "", "properties": { "x": EVIL } }),
    );
    for user in [EVIL, "c1"] {
        let (status, answer) = server.post(
            "/v1/predict/will_return",
            &read,
            &json!({ "user": user, "context": { EVIL: EVIL } }),
        );
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = server.post(
            "/v1/recommend/for_you",
            &read,
            &json!({ "user": user, "context": { EVIL: EVIL, "channel": EVIL } }),
        );
        assert_eq!(status, 200, "{answer}");
    }
    take_over(server, &read, &admin)
}

/// Two models of which a version each takes over, whose numbers are returned, and the ones before were sent back; and answers of both arms.
fn take_over(server: &mut Server, read: &str, admin: &str) -> (u32, u32) {
    for model in ["comes_back", "stays_on"] {
        let train = format!("/v1/models/{model}/train?wait=true");
        let (status, answer) = server.post(&train, admin, &Value::Null);
        assert_eq!(status, 200, "{answer}");
        let first = format!("{model}@1");
        let promote = ["promote", &first, "--override-gate"];
        let why = ["--reason", "a start", "--project", "project.toml"];
        server.told(&[&promote[..], &why].concat());
    }
    // before any version takes over, the page says how one would
    let page = console::page(server, "/models/comes_back");
    for part in [
        "stages of comes_back",
        "at least 1 h and 100 answers",
        "Canary 50 %",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(server.stop(Duration::from_secs(30)).success());
    let number = rollouts::plant(server, "shop", "comes_back", EVIL);
    let other = rollouts::plant(server, "shop", "stays_on", EVIL);
    server.restart();
    for customer in 0..200 {
        let user = json!({ "user": format!("c{customer}") });
        let (status, answer) = server.post("/v1/predict/comes_back", read, &user);
        assert_eq!(status, 200, "{answer}");
    }
    (number, other)
}
