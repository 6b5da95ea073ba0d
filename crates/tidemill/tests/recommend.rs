//! Recommendations against the real binary, over HTTP: learnt from a file, live, filtered, explained.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span};

use support::{Scope, Server, wait_until};

const PROJECT: &str = r#"
[project]
name = "shop"

[items]
id = "properties.product"
attributes = { title = "string?", kind = "string?", price = "float?", available = "bool?" }

[[features.user]]
name = "country"
aggregate = "last"
type = "category"
value = "properties.country"

[[features.user]]
name = "orders"
aggregate = "count"
event = "Ordered"

[models.for_you]
kind     = "recommend"
signals  = { Viewed = 1.0, Ordered = 3.0 }
filter   = "item.price < 100"
repeat   = false
training = { budget = 0.1 }

[models.careful]
kind          = "recommend"
signals       = { Ordered = 1.0 }
within        = "3s"
explore       = 0.3
repeat        = true
caps          = { kind = 2 }
frequency_cap = { times = 2, within = "3s" }
training      = { budget = 0.1 }

[models.here]
kind     = "recommend"
signals  = { Ordered = 1.0 }
segment  = "user.country"
sources  = ["popular", "popular in segment"]
ranker   = false
training = { budget = 0.1 }

[models.again]
kind     = "predict"
observe  = { event = "Ordered" }
target   = { event = "Ordered", within = "30d" }

[sources.history]
map = { user_id = "user", timestamp = "at", name = "event", "properties.product" = "product", "properties.country" = "country" }
"#;

/// Products of each of two kinds.
const OF_A_KIND: u64 = 30;
const PEOPLE: u64 = 240;

fn product(kind: &str, number: u64) -> String {
    format!("{kind}{number}")
}

/// People who like tea, of one country, and people who like tools, of another; each takes some of the products of theirs, and the first ones most.
fn history() -> String {
    let mut csv = "user,at,event,product,country\n".to_owned();
    let end = SystemClock.now() - Span::from_days(1);
    let mut random = 1u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (random >> 33) % bound
    };
    let mut lines = Vec::new();
    for person in 0..PEOPLE {
        let kind = ["tea", "tool"][(person % 2) as usize];
        // neighbours on a circle go together, so that there is more to learn than the kind
        let taste = below(OF_A_KIND);
        for _ in 0..14 {
            let number = (taste + below(6)) % OF_A_KIND;
            let event = if below(3) == 0 { "Viewed" } else { "Ordered" };
            let at = end - Span::from_seconds(below(90 * 86_400) as i64);
            lines.push((at, person, event, product(kind, number)));
        }
    }
    lines.sort();
    for (at, person, event, product) in lines {
        let country = ["DE", "FR"][(person % 2) as usize];
        writeln!(csv, "p{person},{at},{event},{product},{country}").expect("a string grows");
    }
    csv
}

struct Shop {
    server: Server,
    read: String,
    write: String,
}

impl Shop {
    /// With a version that was learnt from the history and passed.
    fn open() -> Self {
        let mut server = Server::start(PROJECT, &[]);
        assert!(server.stop(Duration::from_secs(20)).success());
        std::fs::write(server.folder().join("history.csv"), history()).expect("the history");
        server.told(&[
            "import",
            "history.csv",
            "--source",
            "history",
            "--project",
            "project.toml",
        ]);
        server.restart();
        let [read, write, admin] =
            [Scope::Read, Scope::Write, Scope::Admin].map(|scope| server.key(scope));
        let items: Vec<Value> = ["tea", "tool"]
            .into_iter()
            .flat_map(|kind| {
                (0..OF_A_KIND).map(move |number| {
                    json!({ "id": product(kind, number), "attributes": {
                        "title": format!("{kind} sort{number}"), "kind": kind, "price": number as f64
                    }})
                })
            })
            .collect();
        let (status, answer) = server.put("/v1/items", &admin, &json!({ "items": items }));
        assert_eq!(status, 200, "{answer}");
        let shop = Self {
            server,
            read,
            write,
        };
        let trained = shop
            .server
            .json_of(&["train", "for_you", "--project", "project.toml"]);
        let model = shop.get("/v1/models/for_you");
        assert!(model["champion"].is_u64(), "{trained:#} {model:#}");
        assert!(
            model["promised"]["value"].as_f64() > Some(0.05),
            "{model:#}"
        );
        shop
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.server.get(path, &self.read);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn ask(&self, body: &Value) -> Value {
        let (status, answer) = self.server.post("/v1/recommend/for_you", &self.read, body);
        assert_eq!(status, 200, "{body}: {answer}");
        assert!(answer["version"].is_string(), "{answer}");
        answer
    }

    fn put(&self, id: &str, attributes: &Value) {
        let admin = self.server.key(Scope::Admin);
        let body = json!({ "items": [{ "id": id, "attributes": attributes }] });
        let (status, answer) = self.server.put("/v1/items", &admin, &body);
        assert_eq!(status, 200, "{answer}");
    }

    fn track(&self, user: &str, event: &str, product: &str) {
        let body = json!({
            "userId": user, "event": event, "properties": { "product": product, "country": "FR" }
        });
        let (status, answer) = self.server.post("/v1/track", &self.write, &body);
        assert_eq!(status, 200, "{answer}");
    }
}

fn items(answer: &Value) -> Vec<String> {
    let items = answer["items"].as_array().into_iter().flatten();
    items
        .map(|item| item["item"].as_str().expect("an item").to_owned())
        .collect()
}

fn of_kind(items: &[String], kind: &str) -> usize {
    let is_of = |item: &&String| {
        item.strip_prefix(kind)
            .is_some_and(|rest| rest.parse::<u64>().is_ok())
    };
    items.iter().filter(is_of).count()
}

#[test]
fn people_get_what_is_for_them() {
    let shop = Shop::open();
    let tea = items(&shop.ask(&json!({ "user": "p0", "limit": 5 })));
    assert_eq!(of_kind(&tea, "tea"), 5, "{tea:?}");
    let tools = items(&shop.ask(&json!({ "user": "p1", "limit": 5 })));
    assert_eq!(of_kind(&tools, "tool"), 5, "{tools:?}");

    // nobody knows this person: what everybody takes; after one click it is another list
    let unknown = items(&shop.ask(&json!({ "user": "new" })));
    assert_eq!(unknown.len(), 10);
    shop.track("new", "Viewed", "tool3");
    let now = || items(&shop.ask(&json!({ "user": "new", "limit": 5 })));
    wait_until(|| of_kind(&now(), "tool") == 5);
    assert!(
        !now().contains(&"tool3".to_owned()),
        "what was seen is not shown again"
    );
    shop.track("other", "Viewed", "tea3");
    wait_until(|| {
        let list = items(&shop.ask(&json!({ "user": "other", "limit": 5 })));
        of_kind(&list, "tea") == 5
    });

    // a session without any event, and reasons that name what they come from
    let session = shop.ask(&json!({ "session": ["tea7"], "limit": 5, "reasons": true }));
    assert_eq!(of_kind(&items(&session), "tea"), 5, "{session:#}");
    assert_eq!(
        session["items"][0]["reason"], "because of tea sort7",
        "{session:#}"
    );
    // unknown ids are no errors
    let odd = shop.ask(&json!({ "session": ["no such thing"], "user": "", "limit": 3 }));
    assert_eq!(items(&odd).len(), 3);

    let near = shop.get("/v1/similar/for_you/tool10?limit=4&reasons=true");
    assert_eq!(of_kind(&items(&near), "tool"), 4, "{near:#}");
    assert!(!items(&near).contains(&"tool10".to_owned()));

    let given = json!({ "user": "p0", "items": ["nowhere", "tool1", tea[4], tea[0]] });
    let (status, ranked) = shop.server.post("/v1/rank/for_you", &shop.read, &given);
    assert_eq!(status, 200, "{ranked}");
    assert_eq!(items(&ranked), [&*tea[0], &*tea[4], "tool1", "nowhere"]);

    // every list is a decision
    let id = ranked["decision_id"].as_str().expect("an id");
    let decision = &shop.get(&format!("/v1/decisions/{id}"))["decision"];
    assert_eq!(
        decision["items"].as_array().map(Vec::len),
        Some(4),
        "{decision:#}"
    );
}

#[test]
fn what_must_not_be_shown_never_is() {
    let shop = Shop::open();
    let taken: BTreeSet<String> = history()
        .lines()
        .filter(|line| line.starts_with("p4,"))
        .map(|line| line.split(',').nth(3).expect("a product").to_owned())
        .collect();
    let all = items(&shop.ask(&json!({ "user": "p4", "limit": 60 })));
    assert!(
        all.len() > 40 && all.iter().all(|item| !taken.contains(item)),
        "{all:?}"
    );

    let some: Vec<&String> = all.iter().take(5).collect();
    let rest = items(&shop.ask(&json!({ "user": "p4", "limit": 60, "exclude": some })));
    assert!(some.iter().all(|item| !rest.contains(item)));
    assert_eq!(rest.len(), all.len() - 5);

    // a filter that leaves three returns three, best first, whatever else is better
    let few = json!({ "user": "p4", "filter": "item.kind = 'tool' AND item.price IN (5, 6, 7)" });
    let few: BTreeSet<String> = items(&shop.ask(&few)).into_iter().collect();
    assert_eq!(few, ["tool5", "tool6", "tool7"].map(str::to_owned).into());
    let own = json!({ "user": "p4", "filter": "user.country = 'DE' AND item.kind = request.page.kind", "context": { "page": { "kind": "tool" } } });
    assert_eq!(of_kind(&items(&shop.ask(&own)), "tool"), 10);
    assert_eq!(
        items(&shop.ask(&json!({ "user": "p4", "filter": "false" }))).len(),
        0
    );

    // what the shop changes holds at once; the project's own filter too
    let first = all[0].clone();
    shop.put(&first, &json!({ "available": false }));
    let shown = || items(&shop.ask(&json!({ "user": "p4", "limit": 60 })));
    wait_until(|| !shown().contains(&first));
    shop.put(&first, &json!({ "available": true, "price": 100.0 }));
    let priced = || shop.get(&format!("/v1/items/{first}"))["attributes"]["price"] == 100.0;
    wait_until(priced);
    assert!(
        !shown().contains(&first),
        "the project says item.price < 100"
    );
    shop.put(&first, &json!({ "price": 10.0 }));
    wait_until(|| shown().contains(&first));
    let admin = shop.server.key(Scope::Admin);
    let (status, _) = shop.server.delete(&format!("/v1/items/{first}"), &admin);
    assert_eq!(status, 200);
    wait_until(|| !shown().contains(&first));

    // pages of one list have nothing twice
    let mut seen = BTreeSet::new();
    let mut after = Value::Null;
    for _ in 0..4 {
        let page = shop.ask(&json!({ "user": "p4", "limit": 8, "after": after }));
        for item in items(&page) {
            assert!(seen.insert(item.clone()), "{item} twice");
        }
        after = page["decision_id"].clone();
    }
    assert_eq!(seen.len(), 32);
}

/// Whatever is asked: nothing hidden, excluded, taken, filtered out or too dear is shown, nothing twice, and as many as there are.
#[test]
fn whatever_is_asked_nothing_is_shown_that_must_not_be() {
    const QUESTIONS: usize = 150;
    type Passes<'a> = Box<dyn Fn(&str) -> bool + 'a>;
    let shop = Shop::open();
    let history = history();
    let taken_by = |person: &str| -> BTreeSet<String> {
        let own = history
            .lines()
            .map(|line| line.split(',').collect::<Vec<_>>());
        let own = own.filter(|fields| fields[0] == person);
        own.map(|fields| fields[3].to_owned()).collect()
    };
    let mut random = StdRng::seed_from_u64(7);
    let all: Vec<String> = ["tea", "tool"]
        .into_iter()
        .flat_map(|kind| (0..OF_A_KIND).map(move |number| product(kind, number)))
        .collect();
    // some are not to be had, and one is too dear for what the project says
    let hidden: BTreeSet<String> = all
        .iter()
        .filter(|_| random.random_ratio(1, 6))
        .cloned()
        .collect();
    for item in &hidden {
        shop.put(item, &json!({ "available": false }));
    }
    let dear = all
        .iter()
        .find(|item| !hidden.contains(*item))
        .expect("one that can be had");
    shop.put(dear, &json!({ "price": 100.0 }));
    wait_until(|| {
        let shown = items(&shop.ask(&json!({ "limit": 100 })));
        !shown.contains(dear) && shown.iter().all(|item| !hidden.contains(item))
    });
    let price = |item: &str| -> u64 {
        let number = item.trim_start_matches(char::is_alphabetic);
        number.parse().expect("a number")
    };
    for _ in 0..QUESTIONS {
        let person = match random.random_range(0..4) {
            0 => None,
            1 => Some(format!("nobody{}", random.random_range(0..50))),
            _ => Some(format!("p{}", random.random_range(0..PEOPLE))),
        };
        let excluded: BTreeSet<String> = all
            .iter()
            .filter(|_| random.random_ratio(1, 5))
            .cloned()
            .collect();
        let (kind, most) = (
            ["tea", "tool"][random.random_range(0..2)],
            random.random_range(0..OF_A_KIND),
        );
        let (filter, passes): (Value, Passes<'_>) = match random.random_range(0..4) {
            0 => (Value::Null, Box::new(|_| true)),
            1 => (
                json!(format!("item.kind = '{kind}'")),
                Box::new(move |item| item.starts_with(kind)),
            ),
            2 => (
                json!(format!("item.price <= {most}")),
                Box::new(move |item| price(item) <= most),
            ),
            _ => (
                json!(format!("item.kind = '{kind}' AND item.price > {most}")),
                Box::new(move |item| item.starts_with(kind) && price(item) > most),
            ),
        };
        let limit = random.random_range(1..=60);
        let body = json!({
            "user": person, "exclude": excluded, "filter": filter, "limit": limit, "diversity": random.random_range(0..=10) as f64 / 10.0,
            "boost": if random.random() { json!("CASE WHEN item.price > 10 THEN 3.0 ELSE 1.0 END") } else { Value::Null },
            "session": if random.random_ratio(1, 3) { json!([all[random.random_range(0..all.len())]]) } else { json!([]) },
        });
        let looked_at = body["session"][0].as_str();
        let taken = person.as_deref().map(taken_by).unwrap_or_default();
        let may_be_shown = |item: &&String| {
            let item = item.as_str();
            item != dear
                && !hidden.contains(item)
                && !excluded.contains(item)
                && !taken.contains(item)
                && looked_at != Some(item)
                && passes(item)
        };
        let allowed: BTreeSet<&String> = all.iter().filter(may_be_shown).collect();
        let shown = items(&shop.ask(&body));
        let different: BTreeSet<&String> = shown.iter().collect();
        assert!(
            different.is_subset(&allowed),
            "{body}: {:?}",
            different.difference(&allowed)
        );
        assert_eq!(different.len(), shown.len(), "{body}: something twice");
        assert_eq!(shown.len(), limit.min(allowed.len()), "{body}: {shown:?}");
    }
}

#[test]
fn new_items_mixed_lists_and_mistakes() {
    let shop = Shop::open();
    // a new item with a text appears for the right people before anybody took it
    shop.put(
        "fresh",
        &json!({ "title": "tea sort4 in a tin", "kind": "tea", "price": 4.0 }),
    );
    let list =
        |session: &str| shop.ask(&json!({ "session": [session], "limit": 10, "reasons": true }));
    wait_until(|| items(&list("tea4")).contains(&"fresh".to_owned()));
    let shown = list("tea4");
    let last = shown["items"]
        .as_array()
        .and_then(|items| items.last())
        .expect("items");
    assert_eq!(last["reason"], "new, and like tea sort4", "{shown:#}");
    assert!(!items(&list("tool9")).contains(&"fresh".to_owned()));

    // diversity mixes: the more of it, the fewer neighbours on the circle stand in one list
    let spread = |diversity: f64| {
        let answer = shop.ask(&json!({ "user": "p2", "limit": 8, "diversity": diversity }));
        let of = |item: &String| {
            item.trim_start_matches(|c: char| c.is_alphabetic())
                .parse::<u64>()
        };
        let numbers: Vec<u64> = items(&answer)
            .iter()
            .filter_map(|item| of(item).ok())
            .collect();
        let near = |a: u64, b: u64| a.abs_diff(b).min(OF_A_KIND - a.abs_diff(b)) <= 2;
        let pairs = numbers
            .iter()
            .enumerate()
            .flat_map(|(place, a)| numbers[..place].iter().map(move |b| (*a, *b)));
        pairs.filter(|(a, b)| near(*a, *b)).count()
    };
    assert!(spread(0.9) < spread(0.0), "{} {}", spread(0.9), spread(0.0));

    let refused = |body: Value| {
        let (status, problem) = shop.server.post("/v1/recommend/for_you", &shop.read, &body);
        assert_eq!(status, 400, "{problem}");
        format!(
            "{} {} {}",
            problem["code"], problem["field"], problem["detail"]
        )
    };
    let filter = refused(json!({ "user": "p1", "filter": "item.prise < 3" }));
    assert!(
        filter.contains("bad_expression") && filter.contains("no attribute 'prise'"),
        "{filter}"
    );
    assert!(refused(json!({ "diversity": 3 })).contains("from 0 to 1"));
    assert!(refused(json!({ "limit": 1000 })).contains("at most 100"));
    let (status, problem) =
        shop.server
            .post("/v1/recommend/again", &shop.read, &json!({ "user": "p1" }));
    assert_eq!(status, 404, "{problem}");
    assert!(
        problem["hint"]
            .as_str()
            .unwrap_or_default()
            .contains("/v1/predict/again"),
        "{problem}"
    );

    // the command line says the same
    let told = shop.server.told(&[
        "recommend",
        "for_you",
        "--user",
        "p0",
        "--limit",
        "3",
        "--project",
        "project.toml",
    ]);
    assert!(
        told.contains("for_you@") && told.contains("because of tea"),
        "{told}"
    );
}

/// What people of a country take is for others of it: as they are known, or as the request says of somebody who is not.
#[test]
fn what_is_popular_in_a_country() {
    let shop = Shop::open();
    shop.server
        .json_of(&["train", "here", "--project", "project.toml"]);
    let ask = |body: Value| {
        let (status, answer) = shop.server.post("/v1/recommend/here", &shop.read, &body);
        assert_eq!(status, 200, "{answer}");
        assert!(answer["version"].is_string(), "{answer}");
        answer
    };
    let reasons = |answer: &Value| -> BTreeSet<String> {
        let items = answer["items"].as_array().into_iter().flatten();
        items
            .map(|item| item["reason"].as_str().expect("a reason").to_owned())
            .collect()
    };
    for (country, kind, person) in [("DE", "tea", "p6"), ("FR", "tool", "p7")] {
        let context = json!({ "country": country });
        let unknown = ask(json!({ "limit": 8, "context": context, "reasons": true }));
        assert_eq!(of_kind(&items(&unknown), kind), 8, "{unknown:#}");
        assert_eq!(reasons(&unknown), [format!("popular in {country}")].into());
        // who is known is of their own country, whatever the request says
        for context in [json!({}), json!({ "country": "FR" })] {
            let known = ask(json!({ "user": person, "limit": 8, "context": context }));
            assert_eq!(of_kind(&items(&known), kind), 8, "{known:#}");
        }
    }
    let nowhere = ask(json!({ "limit": 8, "context": { "country": "IT" }, "reasons": true }));
    assert_eq!(reasons(&nowhere), ["popular".to_owned()].into());

    let id = ask(json!({ "user": "p6" }))["decision_id"].clone();
    let known = shop.get(&format!("/v1/decisions/{}", id.as_str().expect("an id")));
    let features = known["features"].as_array().expect("features");
    assert!(
        features
            .iter()
            .any(|known| known["name"] == "user.country" && known["value"] == "DE"),
        "{known:#}"
    );
}

/// An item that came after the version was learnt finds its people by who takes it, event by event; without any word in common with others.
#[test]
fn what_came_since_goes_with_what_its_takers_took() {
    let mut shop = Shop::open();
    shop.put("novelty", &json!({ "title": "wondrous", "price": 4.0 }));
    let list =
        |shop: &Shop, user: &str| shop.ask(&json!({ "user": user, "limit": 20, "reasons": true }));
    let is_shown =
        |shop: &Shop, user: &str| items(&list(shop, user)).contains(&"novelty".to_owned());
    let takers = || (100..116).step_by(2).map(|person| format!("p{person}"));
    let those_who_like = |shop: &Shop, kind: u64| {
        let people = (kind..60).step_by(2).map(|person| format!("p{person}"));
        people.filter(|person| is_shown(shop, person)).count()
    };
    assert_eq!(those_who_like(&shop, 0), 0, "nobody has taken it yet");
    for taker in takers() {
        shop.track(&taker, "Ordered", "novelty");
    }
    wait_until(|| those_who_like(&shop, 0) > 20);
    let mean_place = |shop: &Shop, kind: u64| {
        let places = (kind..60).step_by(2).map(|person| {
            let list = items(&list(shop, &format!("p{person}")));
            let place = list.iter().position(|item| item == "novelty");
            place.unwrap_or(list.len()) as f64
        });
        places.sum::<f64>() / 30.0
    };
    // it is what is taken most just now, but stands above what is known only for those who take such things
    let (tea, tool) = (mean_place(&shop, 0), mean_place(&shop, 1));
    assert!(tea + 3.0 < tool, "{tea} {tool}");
    let session = shop.ask(&json!({ "session": ["novelty"], "limit": 5 }));
    assert_eq!(of_kind(&items(&session), "tea"), 5, "{session:#}");
    let near = shop.get("/v1/similar/for_you/tea4?limit=30&reasons=true");
    let near = near["items"].as_array().expect("items");
    let novelty = near.iter().find(|item| item["item"] == "novelty");
    assert_eq!(
        novelty.map(|item| &item["reason"]),
        Some(&json!("because of tea sort4")),
        "{near:#?}"
    );

    // after a start it is found again in what people have taken
    assert!(shop.server.stop(Duration::from_secs(20)).success());
    shop.server.restart();
    wait_until(|| those_who_like(&shop, 0) > 20);
    // when those who took it are erased, nothing of it is left
    for taker in takers() {
        shop.server
            .told(&["erase", &taker, "--yes", "--project", "project.toml"]);
    }
    assert_eq!(those_who_like(&shop, 0), 0);
}

/// Before anything was learnt there is an answer all the same, and a version comes back after a start.
#[test]
fn there_is_always_an_answer() {
    let mut server = Server::start(PROJECT, &[]);
    let [read, write] = [Scope::Read, Scope::Write].map(|scope| server.key(scope));
    let ask = |server: &Server| {
        let (status, answer) = server.post("/v1/recommend/for_you", &read, &json!({ "user": "p" }));
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let empty = ask(&server);
    assert_eq!(
        (items(&empty).len(), &empty["fallback"]),
        (0, &json!("no_version")),
        "{empty}"
    );
    let admin = server.key(Scope::Admin);
    let put = json!({ "items": [{ "id": "a", "attributes": { "price": 1.0 } }, { "id": "b", "attributes": { "price": 2.0 } }] });
    assert_eq!(server.put("/v1/items", &admin, &put).0, 200);
    wait_until(|| items(&ask(&server)).len() == 2);
    let body = json!({ "userId": "p", "event": "Ordered", "properties": { "product": "a" } });
    assert_eq!(server.post("/v1/track", &write, &body).0, 200);
    assert!(server.stop(Duration::from_secs(20)).success());
    server.restart();
    assert!(!items(&ask(&server)).is_empty());
}

/// At most so many of a kind, not too often the same, some at random with the probability that is said; and what was taken of a list is
/// known afterwards.
#[test]
fn lists_keep_their_rules_and_are_followed() {
    let shop = Shop::open();
    let careful = |user: &str| {
        let body = json!({ "user": user, "limit": 10, "reasons": true });
        let (status, answer) = shop.server.post("/v1/recommend/careful", &shop.read, &body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let mut explored = 0;
    for number in 0..40 {
        let list = careful(&format!("p{number}"));
        let shown = items(&list);
        assert_eq!(
            (of_kind(&shown, "tea"), of_kind(&shown, "tool")),
            (2, 2),
            "{shown:?}"
        );
        for item in list["items"].as_array().expect("items") {
            let propensity = item["propensity"].as_f64().expect("a propensity");
            assert!(propensity > 0.0 && propensity <= 1.0, "{item}");
            explored += usize::from(item["reason"] == "drawn at random, to learn about it");
        }
    }
    assert!((20..80).contains(&explored), "{explored} of 160");

    let [first, second] = [(); 2].map(|()| items(&careful("p100")));
    let twice: BTreeSet<&String> = first.iter().filter(|item| second.contains(item)).collect();
    assert!(!twice.is_empty(), "{first:?} {second:?}");
    let third = items(&careful("p100"));
    assert!(!third.iter().any(|item| twice.contains(item)), "{third:?}");
    // a while later they may come again
    wait_until(|| {
        items(&careful("p100"))
            .iter()
            .any(|item| twice.contains(item))
    });

    let list = careful("p7");
    let taken = items(&list)[1].clone();
    shop.track("p7", "Ordered", &taken);
    shop.track("p7", "Ordered", "something else");
    let path = format!(
        "/v1/decisions/{}",
        list["decision_id"].as_str().expect("an id")
    );
    wait_until(|| shop.get(&path)["outcome"].is_object());
    let outcome = &shop.get(&path)["outcome"];
    assert_eq!(outcome["value"], 1.0, "{outcome:#}");
    let expected = json!([{ "item": taken, "place": 1 }]);
    assert_eq!(
        (&outcome["list"]["taken"], &outcome["list"]["others"]),
        (&expected, &json!(1))
    );
    let live = shop.get("/v1/models/careful");
    assert!(live["lists"]["fallbacks"].as_u64() > Some(0), "{live:#}");
}

/// Lists for everybody in a file.
#[test]
fn everybody_gets_a_list_in_a_file() {
    let shop = Shop::open();
    let all = [
        "recommend",
        "for_you",
        "--all",
        "--limit",
        "3",
        "--project",
        "project.toml",
    ];
    let in_folder = |name: &str| {
        shop.server
            .folder()
            .join(name)
            .to_string_lossy()
            .into_owned()
    };
    let to = in_folder("lists.csv");
    shop.server.told(&[&all, &["--to", &*to][..]].concat());
    let text = std::fs::read_to_string(&to).expect("a file");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("user,rank,item,score,propensity,reason,decision_id,version")
    );
    assert_eq!(lines.count() as u64, 3 * PEOPLE);
    assert!(text.contains("p239,3,tool"), "{text}");
    let error = shop.server.refused(&[&all, &["--to", &*to][..]].concat());
    assert!(error.contains("--overwrite replaces it"), "{error}");
    let error = shop
        .server
        .refused(&[&all, &["--to", "lists.txt"][..]].concat());
    assert!(error.contains(".parquet or .csv"), "{error}");

    // nobody was heard of in the last second
    let to = in_folder("lists.parquet");
    let lately = ["--to", &*to, "--active-within", "1s"];
    let none = shop.server.told(&[&all, &lately[..]].concat());
    assert!(none.contains("0 items for 0 persons"), "{none}");
    shop.server
        .told(&[&all, &["--to", &*to, "--overwrite"][..]].concat());
    let file = std::fs::File::open(&to).expect("a file");
    let reader =
        datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let rows = reader
        .expect("Parquet")
        .build()
        .expect("Parquet")
        .map(|rows| rows.expect("rows").num_rows());
    assert_eq!(rows.sum::<usize>() as u64, 3 * PEOPLE);
    let page = shop.get("/v1/users/p1");
    let recommended = &page["recommendations"][1];
    assert_eq!(recommended["model"], "for_you", "{page:#}");
    assert_eq!(of_kind(&items(recommended), "tool"), 5, "{recommended:#}");
}

/// A person who is erased is nobody: to answers, pages and what is learnt next; and what they do then begins anew.
#[test]
fn who_is_erased_is_forgotten() {
    let shop = Shop::open();
    let before = items(&shop.ask(&json!({ "user": "p1", "limit": 5 })));
    assert_eq!(of_kind(&before, "tool"), 5, "{before:?}");
    let decision = shop.ask(&json!({ "user": "p1" }))["decision_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let events = |user: &str| {
        let page = shop.get(&format!("/v1/users/{user}?events=100"));
        page["timeline"].as_array().map_or(0, Vec::len)
    };
    let (own, other) = (events("p1"), events("p2"));
    assert!(own > 5 && other > 5, "{own} {other}");
    let orders = |user: &str| {
        let page = shop.get(&format!("/v1/users/{user}"));
        page["features"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|feature| feature["name"] == "user.orders")
            .and_then(|feature| feature["value"].as_f64())
    };
    let of_other = orders("p2");
    assert!(orders("p1") > Some(1.0));

    // before that they get what is stored about them
    let exported = shop.server.told(&[
        "export",
        "p1",
        "--to",
        "p1.json",
        "--project",
        "project.toml",
    ]);
    assert!(exported.contains("14 events"), "{exported}");
    let file = std::fs::read(shop.server.folder().join("p1.json")).expect("the file");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(
        (&file["ids"], &file["complete"]),
        (&json!(["user:p1"]), &json!(true))
    );
    assert!(
        file["decisions"].to_string().contains(&decision),
        "{file:#}"
    );
    let (status, _) = shop.server.get("/v1/users/p1/export", &shop.read);
    assert_eq!(status, 403, "only an administrator may");

    let error = shop
        .server
        .refused(&["erase", "p1", "--project", "project.toml"]);
    assert!(error.contains("--yes"), "{error}");
    let (status, _) = shop.server.delete("/v1/users/p1", &shop.read);
    assert_eq!(status, 403, "only an administrator may");
    let told = shop.server.told(&[
        "erase",
        "p1",
        "--reason",
        "asked for it",
        "--yes",
        "--project",
        "project.toml",
    ]);
    assert!(told.contains("p1 is gone: 14 events"), "{told}");

    assert_eq!((events("p1"), events("p2")), (0, other));
    assert_eq!((orders("p1"), orders("p2")), (Some(0.0), of_other));
    let now = items(&shop.ask(&json!({ "user": "p1" })));
    assert_eq!(now, items(&shop.ask(&json!({ "user": "nobody at all" }))));
    let (status, _) = shop
        .server
        .get(&format!("/v1/decisions/{decision}"), &shop.read);
    assert_eq!(status, 404);
    let error = shop
        .server
        .refused(&["export", "never-seen", "--project", "project.toml"]);
    assert!(error.contains("nothing is known"), "{error}");
    let admin = shop.server.key(Scope::Admin);
    let (_, audit) = shop.server.get("/v1/audit", &admin);
    assert!(
        audit.to_string().contains("asked for it") && !audit.to_string().contains("p1\""),
        "{audit}"
    );
    // the next version is learnt without them
    let trained = shop
        .server
        .json_of(&["train", "for_you", "--project", "project.toml"]);
    assert!(trained.is_object(), "{trained}");
    shop.track("p1", "Viewed", "tea4");
    wait_until(|| {
        let list = items(&shop.ask(&json!({ "user": "p1", "limit": 5 })));
        of_kind(&list, "tea") == 5
    });
}
