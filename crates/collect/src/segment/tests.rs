use expect_test::{Expect, expect};
use proptest::prelude::*;
use tidemill_store::QuarantineReason;

use super::*;

const NOW: &str = "2024-03-01T12:00:00Z";

fn project() -> Project {
    Project::parse(
        "[project]\nname = 'shop'\n[events.'Tool Opened']\nproperties = { tool = 'string', seconds = 'float? >= 0' }",
    )
    .unwrap()
}

fn parse(call: Call, body: &str) -> Result<Batch, RequestError> {
    parse_request(
        call,
        body.as_bytes(),
        NOW.parse().unwrap(),
        &Limits::default(),
        &project(),
    )
}

/// Parses and compares events (as the log stores them) and quarantined pieces with what is expected.
fn check(call: Call, body: &str, expected: Expect) {
    let text = match parse(call, body) {
        Err(error) => format!("{}: {error}\n", error.code()),
        Ok(batch) => {
            let events = batch
                .events
                .iter()
                .map(|event| serde_json::to_string_pretty(event).unwrap() + "\n");
            let pieces = batch.quarantined.iter().map(|piece| {
                format!(
                    "quarantined, {}: {}\n  from {}: {}\n",
                    piece.reason, piece.detail, piece.source, piece.body
                )
            });
            let key = batch
                .write_key
                .iter()
                .map(|key| format!("write key {key}\n"));
            events.chain(pieces).chain(key).collect()
        }
    };
    expected.assert_eq(&text);
}

/// What a track call with these members becomes: `ok`, or the reason and the detail.
fn verdict(members: &str) -> String {
    let body = format!(r#"{{"batch": [{{"type": "track", "messageId": "m", {members}}}]}}"#);
    let batch = parse(Call::Batch, &body).unwrap();
    match (batch.events.as_slice(), batch.quarantined.as_slice()) {
        ([_], []) => "ok".to_owned(),
        ([], [piece]) => format!("{}: {}", piece.reason, piece.detail),
        other => panic!("one piece became {other:?}"),
    }
}

#[test]
fn a_batch_of_the_python_library() {
    let body = r#"{"batch": [
        {"integrations": {}, "anonymousId": null, "properties": {"tool": "hammer", "seconds": 3.5},
         "timestamp": "2024-03-01T11:59:00.000000+00:00", "userId": "019mr8mf4r", "type": "track", "event": "Tool Opened",
         "messageId": "022bb90c-bbac-11e4-8dfc-aa07a5b093db",
         "context": {"library": {"name": "analytics-python", "version": "2.3.2"}}},
        {"integrations": {"All": true}, "anonymousId": null, "traits": {"email": "a@example.com"}, "timestamp": null,
         "userId": 42, "type": "identify", "messageId": "m2", "context": {"library": {"name": "analytics-python", "version": "2.3.2"}}}],
        "sentAt": "2024-03-01T11:59:30.000000+00:00", "writeKey": "wk"}"#;
    check(
        Call::Batch,
        body,
        expect![[r#"
        {
          "message_id": "022bb90c-bbac-11e4-8dfc-aa07a5b093db",
          "kind": "track",
          "name": "Tool Opened",
          "user_id": "019mr8mf4r",
          "timestamp": "2024-03-01T11:59:30.000000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "properties": {
            "seconds": 3.5,
            "tool": "hammer"
          },
          "context": {
            "library": {
              "name": "analytics-python",
              "version": "2.3.2"
            }
          }
        }
        {
          "message_id": "m2",
          "kind": "identify",
          "name": "$identify",
          "user_id": "42",
          "timestamp": "2024-03-01T12:00:00.000000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "properties": {
            "email": "a@example.com"
          },
          "context": {
            "integrations": {
              "All": true
            },
            "library": {
              "name": "analytics-python",
              "version": "2.3.2"
            }
          }
        }
        write key wk
    "#]],
    );
}

#[test]
fn a_batch_of_the_node_library() {
    let body = r#"{"batch": [
        {"type": "page", "name": "Pricing", "category": "Docs", "properties": {"url": "https://example.com/pricing", "category": "own"},
         "anonymousId": "a1", "timestamp": "2024-03-01T12:59:58.000Z", "_metadata": {"nodeVersion": "20.11.0"},
         "context": {"library": {"name": "@segment/analytics-node", "version": "2.1.0"}, "decision_id": "0190"},
         "integrations": {}, "messageId": "node-next-1709294398000-1"},
        {"type": "alias", "userId": "u1", "previousId": "a1", "timestamp": "2024-03-01T12:59:59.000Z",
         "context": {"ip": "203.0.113.9"}, "integrations": {}, "messageId": "node-next-2"},
        {"type": "group", "userId": "u1", "groupId": "g1", "traits": {"plan": "pro"}, "timestamp": "2024-03-01T13:00:00.000Z",
         "messageId": "node-next-3"}],
        "context": {"ip": "198.51.100.1", "locale": "de"}, "integrations": {"All": false},
        "sentAt": "2024-03-01T13:00:00.000Z"}"#;
    check(
        Call::Batch,
        body,
        expect![[r#"
        {
          "message_id": "node-next-1709294398000-1",
          "kind": "page",
          "name": "Page Viewed",
          "anonymous_id": "a1",
          "timestamp": "2024-03-01T11:59:58.000000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "properties": {
            "category": "own",
            "name": "Pricing",
            "url": "https://example.com/pricing"
          },
          "context": {
            "decision_id": "0190",
            "integrations": {
              "All": false
            },
            "ip": "198.51.100.1",
            "library": {
              "name": "@segment/analytics-node",
              "version": "2.1.0"
            },
            "locale": "de"
          }
        }
        {
          "message_id": "node-next-2",
          "kind": "alias",
          "name": "$alias",
          "user_id": "u1",
          "previous_id": "a1",
          "timestamp": "2024-03-01T11:59:59.000000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "context": {
            "integrations": {
              "All": false
            },
            "ip": "203.0.113.9",
            "locale": "de"
          }
        }
        {
          "message_id": "node-next-3",
          "kind": "group",
          "name": "$group",
          "user_id": "u1",
          "group_id": "g1",
          "timestamp": "2024-03-01T12:00:00.000000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "properties": {
            "plan": "pro"
          },
          "context": {
            "integrations": {
              "All": false
            },
            "ip": "198.51.100.1",
            "locale": "de"
          }
        }
    "#]],
    );
}

#[test]
fn a_single_call_of_a_browser() {
    let body = r#"{"timestamp":"2024-03-01T12:00:00.500Z","sentAt":"2024-03-01T12:00:01.000Z","integrations":{},
        "userId":null,"anonymousId":"9d3f","event":"Order Completed","type":"page","properties":{"total":12.50},
        "context":{"page":{"path":"/"}},"messageId":"ajs-next-1","writeKey":"wk","_metadata":{"bundled":[]}}"#;
    check(
        Call::Track,
        body,
        expect![[r#"
        {
          "message_id": "ajs-next-1",
          "kind": "track",
          "name": "Order Completed",
          "anonymous_id": "9d3f",
          "timestamp": "2024-03-01T11:59:59.500000Z",
          "received_at": "2024-03-01T12:00:00.000000Z",
          "properties": {
            "total": 12.5
          },
          "context": {
            "page": {
              "path": "/"
            }
          }
        }
        write key wk
    "#]],
    );
}

#[test]
fn calls_that_are_refused_as_a_whole() {
    let limits = Limits::default();
    check(
        Call::Track,
        "{\"event\": ",
        expect![[r#"
        unreadable_body: the body is not readable as JSON: EOF while parsing a value at line 1 column 10
    "#]],
    );
    check(
        Call::Track,
        "[]",
        expect![[r#"
        wrong_shape: the body is not an object
    "#]],
    );
    check(
        Call::Batch,
        "{}",
        expect![[r#"
        batch_absent: batch is absent: send the events as a list in 'batch'
    "#]],
    );
    check(
        Call::Batch,
        r#"{"batch": {}}"#,
        expect![[r#"
        wrong_shape: the body is not an object with a list of events in 'batch'
    "#]],
    );
    check(
        Call::Batch,
        r#"{"batch": [{}"#,
        expect![[r#"
        unreadable_body: the body is not readable as JSON: EOF while parsing a list at line 1 column 13
    "#]],
    );
    check(
        Call::Track,
        &format!(r#"{{"event": "{}"}}"#, "x".repeat(limits.event_bytes_max)),
        expect![[r#"
            too_large: the body has 32781 bytes, at most 32768 are accepted: send smaller calls
        "#]],
    );
    check(
        Call::Batch,
        &" ".repeat(limits.batch_bytes_max + 1),
        expect![[r#"
            too_large: the body has 512001 bytes, at most 512000 are accepted: send smaller calls
        "#]],
    );
    check(
        Call::Batch,
        &format!(r#"{{"batch": [{}0]}}"#, "0,".repeat(2_500)),
        expect![[r#"
            too_many_events: the batch has 2501 entries, at most 2500 are accepted: send smaller batches
        "#]],
    );
    let not_utf8 = parse_request(
        Call::Track,
        b"{\"event\": \"\xff\"}",
        NOW.parse().unwrap(),
        &limits,
        &project(),
    );
    assert!(matches!(not_utf8, Err(RequestError::Unreadable { .. })));
}

#[test]
fn a_single_bad_call_is_quarantined_with_its_bytes() {
    check(
        Call::Track,
        r#"{"userId":"u1", "event": 5.5}"#,
        expect![[r#"
            quarantined, invalid_field: event is a decimal number: write it as a text
              from http/track: {"userId":"u1", "event": 5.5}
        "#]],
    );
}

#[test]
fn every_reason_names_the_field_and_the_remedy() {
    let check = |members: &str, expected: Expect| expected.assert_eq(&verdict(members));
    check(r#""event": "A", "userId": 7"#, expect!["ok"]);
    check(
        r#""event": "A""#,
        expect!["missing_field: userId or anonymousId is absent: say who did it"],
    );
    check(
        r#""event": "A", "userId": " ", "anonymousId": null"#,
        expect!["missing_field: userId or anonymousId is absent: say who did it"],
    );
    check(
        r#""userId": "u""#,
        expect!["missing_field: event is absent: say what happened, like 'Order Completed'"],
    );
    check(
        r#""event": ["A"], "userId": "u""#,
        expect!["invalid_field: event is a list: write it as a text"],
    );
    check(
        r#""event": "A", "userId": {"id": 1}"#,
        expect!["invalid_field: userId is an object: write it as a text"],
    );
    check(
        r#""event": "A", "userId": "u", "properties": "x""#,
        expect!["invalid_field: properties is a text: write an object, like {}"],
    );
    check(
        r#""event": "A", "userId": "u", "properties": []"#,
        expect!["ok"],
    );
    check(
        r#""event": "A", "userId": "u", "context": [1]"#,
        expect!["invalid_field: context is a list: write an object, like {}"],
    );
    check(
        r#""event": "A", "userId": "u", "timestamp": "soon""#,
        expect!["bad_time: timestamp 'soon' is not a time: write it like 2011-12-09T12:50:00Z"],
    );
    check(
        r#""event": "A", "userId": "u", "timestamp": "2024-03-02T12:00:01Z""#,
        expect![
            "bad_time: timestamp 2024-03-02T12:00:01.000000Z is more than 1d ahead of 2024-03-01T12:00:00.000000Z: check the sender's clock, and send sentAt"
        ],
    );
    check(
        r#""event": "A", "userId": "u", "timestamp": "1969-12-31T23:59:59Z""#,
        expect![
            "bad_time: timestamp 1969-12-31T23:59:59.000000Z is before 1970: check the sender's clock"
        ],
    );
    check(
        r#""event": "A", "userId": "u", "sentAt": true"#,
        expect!["bad_time: sentAt 'a boolean' is not a time: write it like 2011-12-09T12:50:00Z"],
    );
    check(
        r#""event": "A", "userId": "u", "properties": {"n": 1e999}"#,
        expect!["unreadable: not readable as an object: number out of range at line 1 column 90"],
    );
    check(
        r#""event": "Tool Opened", "userId": "u", "properties": {"tool": 3}"#,
        expect![
            "schema_mismatch: properties.tool of 'Tool Opened': expected string, found 3; mend the sender, or the declaration in the project file"
        ],
    );
    check(
        r#""event": "Tool Opened", "userId": "u""#,
        expect![
            "schema_mismatch: properties.tool of 'Tool Opened': expected string, it is absent; mend the sender, or the declaration in the project file"
        ],
    );
    check(
        r#""event": "Tool Opened", "userId": "u", "properties": {"tool": "a", "other": 1}"#,
        expect!["ok"],
    );
    check(
        r#""event": "A", "userId": "u", "type": "click""#,
        expect![
            "invalid_field: type 'click' is not known: write one of track, identify, page, screen, group, alias"
        ],
    );
    check(
        r#""event": "A", "userId": "u", "type": null"#,
        expect![
            "missing_field: type is absent: write one of track, identify, page, screen, group, alias"
        ],
    );
    check(
        r#""event": "A", "userId": "u", "type": 1"#,
        expect![
            "invalid_field: type is not a text: write one of track, identify, page, screen, group, alias"
        ],
    );
    check(
        r#""userId": "u", "type": "group""#,
        expect!["missing_field: groupId is absent: say which group"],
    );
    check(
        r#""userId": "u", "type": "alias""#,
        expect!["missing_field: previousId is absent: say which id becomes userId"],
    );
    check(
        r#""anonymousId": "u", "previousId": "p", "type": "alias""#,
        expect!["missing_field: userId is absent: say which id previousId becomes"],
    );
    let long = |name: &str, length: usize| {
        format!(
            r#""event": "A", "userId": "u", "{name}": "{}""#,
            "ü".repeat(length)
        )
    };
    check(&long("messageId", 100), expect!["ok"]);
    check(
        &long("messageId", 101),
        expect!["invalid_field: messageId is longer than 100 characters: shorten it"],
    );
    check(
        &long("userId", 257),
        expect!["invalid_field: userId is longer than 512 bytes: shorten it"],
    );
    check(
        &long("event", 257),
        expect!["invalid_field: the event's name is longer than 512 bytes: shorten it"],
    );
    check(
        &long("x", 16 * 1024),
        expect![
            "too_large: 32841 bytes, an event may have 32768: send less in properties, or split it"
        ],
    );
    let deep = |levels: usize| {
        format!(
            r#""event": "A", "userId": "u", "properties": {{"d": {}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    check(&deep(64), expect!["ok"]);
    check(
        &deep(65),
        expect!["invalid_field: properties is nested deeper than 64 levels: flatten it"],
    );
    check(
        &deep(10_000),
        expect![
            "unreadable: not readable as an object: recursion limit exceeded at line 1 column 211"
        ],
    );
    let reasons = [r#"5"#, r#""x""#, "null", "[]"].map(|piece| {
        let batch = parse(Call::Batch, &format!(r#"{{"batch": [{piece}]}}"#)).unwrap();
        (
            batch.quarantined[0].reason,
            batch.quarantined[0].body.clone(),
        )
    });
    for ((reason, body), piece) in reasons.into_iter().zip(["5", "\"x\"", "null", "[]"]) {
        assert_eq!(
            (reason, body.as_str()),
            (QuarantineReason::Unreadable, piece)
        );
    }
}

#[test]
fn what_a_batch_says_for_all_must_be_usable() {
    let event = r#"{"type": "track", "event": "A", "userId": "u"}"#;
    check(
        Call::Batch,
        &format!(r#"{{"batch": [{event}], "sentAt": "x"}}"#),
        expect![[r#"
            quarantined, bad_time: the batch's sentAt 'x' is not a time: write it like 2011-12-09T12:50:00Z
              from http/batch: {"type": "track", "event": "A", "userId": "u"}
        "#]],
    );
    check(
        Call::Batch,
        &format!(r#"{{"context": "x", "batch": [{event}]}}"#),
        expect![[r#"
            quarantined, invalid_field: the batch's context is a text: write an object, like {}
              from http/batch: {"type": "track", "event": "A", "userId": "u"}
        "#]],
    );
}

#[test]
fn the_clock_of_the_client_is_corrected() {
    let check = |times: &str, expected: &str| {
        let body = format!(r#"{{"event": "A", "userId": "u", {times}}}"#);
        let batch = parse(Call::Track, &body).unwrap();
        let event = batch
            .events
            .first()
            .unwrap_or_else(|| panic!("{body}: {:?}", batch.quarantined));
        assert_eq!(event.timestamp, expected.parse().unwrap(), "{body}");
        assert_eq!(event.received_at, NOW.parse().unwrap());
    };
    check(r#""x": 1"#, NOW);
    check(
        r#""timestamp": "2024-02-01T00:00:00Z""#,
        "2024-02-01T00:00:00Z",
    );
    check(r#""timestamp": 1706745600"#, "2024-02-01T00:00:00Z");
    check(r#""timestamp": 1706745600000"#, "2024-02-01T00:00:00Z");
    check(r#""timestamp": "1706745600.5""#, "2024-02-01T00:00:00.5Z");
    // a clock that is three years ahead
    check(
        r#""originalTimestamp": "2027-03-01T11:59:50Z", "sentAt": "2027-03-01T12:00:00Z""#,
        "2024-03-01T11:59:50Z",
    );
    // the original counts where both are there
    check(
        r#""originalTimestamp": "2024-03-01T11:00:00Z", "timestamp": "2020-01-01T00:00:00Z", "sentAt": "2024-03-01T12:00:00Z""#,
        "2024-03-01T11:00:00Z",
    );
    check(r#""sentAt": "2020-03-01T12:00:00Z""#, NOW);
}

#[test]
fn a_retry_without_a_message_id_is_recognised() {
    let id = |body: &str, at: &str| {
        let batch = parse_request(
            Call::Track,
            body.as_bytes(),
            at.parse().unwrap(),
            &Limits::default(),
            &project(),
        );
        batch.unwrap().events.remove(0).message_id
    };
    let stamped = r#"{"userId":"u","event":"A","timestamp":"2024-03-01T11:00:00Z","sentAt":"2024-03-01T11:00:01Z"}"#;
    let retried = r#"{"userId":"u","sentAt":"2024-03-01T11:00:09Z","event":"A","timestamp":"2024-03-01T11:00:00Z"}"#;
    assert_eq!(id(stamped, NOW), id(retried, "2024-03-01T12:00:08Z"));
    let other = r#"{"userId":"u","event":"A","timestamp":"2024-03-01T11:00:00.001Z"}"#;
    assert_ne!(id(stamped, NOW), id(other, NOW));
    // without a time nothing says that it is the same event
    let bare = r#"{"userId":"u","event":"A"}"#;
    assert_ne!(id(bare, NOW), id(bare, "2024-03-01T12:00:08Z"));
    let twice = parse(
        Call::Batch,
        r#"{"batch":[{"type":"track","userId":"u","event":"A"},{"type":"track","userId":"u","event":"A"}]}"#,
    );
    let twice = twice.unwrap().events;
    assert_ne!(twice[0].message_id, twice[1].message_id);
}

#[test]
fn the_write_key_is_found_without_reading_the_rest() {
    assert_eq!(
        write_key(br#"{"batch": [{"writeKey": "inner"}], "writeKey": "wk"}"#).as_deref(),
        Some("wk")
    );
    assert_eq!(write_key(br#"{"batch": []}"#), None);
    assert_eq!(write_key(b"not json"), None);
}

#[test]
fn a_key_that_is_there_twice_counts_as_written_last() {
    let batch = parse(Call::Track, r#"{"userId":"a","userId":"b","event":"A"}"#).unwrap();
    assert_eq!(batch.events[0].user_id.as_deref(), Some("b"));
}

/// Any JSON up to a depth, with the keys of the API among its keys.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "track",
            "page",
            "alias",
            "2024-03-01T11:00:00Z",
            "u1",
            "Tool Opened"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((any_key(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = vec![
        "type",
        "event",
        "name",
        "category",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "messageId",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "properties",
        "traits",
        "context",
        "integrations",
        "tool",
        "seconds",
        "id",
        "attributes",
        "items",
        "batch",
    ];
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => "[a-z]{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_piece_of_a_batch_is_an_event_or_is_quarantined(pieces in prop::collection::vec(any_json(), 0..12)) {
        let body = serde_json::json!({ "batch": pieces }).to_string();
        let batch = parse(Call::Batch, &body).unwrap();
        prop_assert_eq!(batch.events.len() + batch.quarantined.len(), pieces.len());
        for event in &batch.events {
            // what is stored can be read back, bit for bit
            let json = serde_json::to_string(event).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Event>(&json).unwrap(), event);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), call in 0..7_usize) {
        let call = Call::SOURCES[call].0;
        let _ = parse_request(call, &body, NOW.parse().unwrap(), &Limits::default(), &project());
        let _ = write_key(&body);
    }

    #[test]
    fn arbitrary_json_never_panics(body in any_json(), call in 0..7_usize) {
        let call = Call::SOURCES[call].0;
        if let Ok(batch) = parse(call, &body.to_string()) {
            let pieces = body["batch"].as_array().map_or(1, Vec::len);
            let expected = if call == Call::Batch { pieces } else { 1 };
            prop_assert_eq!(batch.events.len() + batch.quarantined.len(), expected);
        }
    }
}
