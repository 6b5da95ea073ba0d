//! What every catalog has to do for [`Users`](crate::users::Users).

use std::collections::BTreeSet;

use tidemill_core::{ProjectName, Timestamp};

use super::samples::NOON;
use crate::catalog::AuditEntry;
use crate::users::{Pass, Role, User};
use crate::{Catalog, StoreError};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOON.micros() + seconds * 1_000_000)
}

fn entry(action: &str) -> AuditEntry {
    AuditEntry {
        at: at(0),
        project: None,
        actor: "command line".to_owned(),
        action: action.to_owned(),
        subject: "ada".to_owned(),
        reason: String::new(),
    }
}

fn user(name: &str, role: Role) -> User {
    User {
        name: name.to_owned(),
        role,
        password: None,
        created_at: at(0),
        projects: None,
    }
}

fn pass(hash: &str, user: &str, until: i64) -> Pass {
    Pass {
        hash: hash.to_owned(),
        user: user.to_owned(),
        created_at: at(0),
        expires_at: at(until),
    }
}

/// Everybody sees all projects until they are given some, which a change of their role leaves as they are; an admin sees all.
async fn projects_are_given<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("projects").await;
    let name = |text: &str| text.parse::<ProjectName>().expect("a name");
    let (shop, news) = (name("shop"), name("news"));
    let bob = user("bob", Role::Viewer);
    catalog
        .put_user(&bob, entry("add_user"))
        .await
        .expect("add");
    let given = BTreeSet::from([shop]);
    let set = catalog.set_projects("bob", Some(&given), entry("set_projects"));
    set.await.expect("set");
    let editor = user("bob", Role::Editor);
    let changed = catalog.put_user(&editor, entry("set_role"));
    changed.await.expect("change");
    drop(catalog);
    let catalog = open("projects").await;
    let session = pass("s", "bob", 60);
    let added = catalog.add_session(&session, entry("sign_in"));
    added.await.expect("add");
    let found = catalog.session("s", at(1)).await.expect("read");
    let found = found.expect("a session");
    assert_eq!(
        (found.role, &found.projects),
        (Role::Editor, &Some(given.clone()))
    );
    let shop = given.first().expect("one");
    assert!(found.sees(shop) && !found.sees(&news));
    let admin = User {
        role: Role::Admin,
        ..found.clone()
    };
    assert!(admin.sees(&news));
    let empty = BTreeSet::new();
    let none = catalog.set_projects("bob", Some(&empty), entry("set_projects"));
    none.await.expect("set");
    let found = catalog.session("s", at(1)).await.expect("read");
    assert!(!found.expect("a session").sees(shop));
    let all = catalog.set_projects("bob", None, entry("set_projects"));
    all.await.expect("set");
    assert!(catalog.users().await.expect("users")[0].sees(&news));
    let nobody = catalog.set_projects("eve", None, entry("set_projects"));
    assert!(matches!(nobody.await, Err(StoreError::NotFound(_))));
}

/// Users, links and sessions are kept, hold once or for their time, and go with their user.
pub async fn check<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("users").await;
    let ada = user("ada", Role::Viewer);
    catalog
        .put_user(&ada, entry("add_user"))
        .await
        .expect("add");
    let ada = User {
        password: Some("$argon2id$…".to_owned()),
        ..user("ada", Role::Admin)
    };
    catalog
        .put_user(&ada, entry("set_role"))
        .await
        .expect("set");
    drop(catalog);
    let catalog = open("users").await;
    let all = catalog.users().await.expect("users");
    assert_eq!(all, std::slice::from_ref(&ada));
    projects_are_given(open).await;
    links_sign_in_once(&catalog, &ada).await;
    sessions_hold_for_their_time(&catalog, &ada).await;

    let audit = catalog.server_audit_log(10).await.expect("audit");
    let actions: Vec<&str> = audit.iter().map(|entry| entry.action.as_str()).collect();
    let expected = [
        "sign_in", "sign_in", "sign_in", "add_link", "set_role", "add_user",
    ];
    assert_eq!(actions, expected);
    catalog
        .remove_user("ada", entry("remove_user"))
        .await
        .expect("remove");
    assert_eq!(catalog.session("s2", at(1)).await.expect("session"), None);
    let gone = catalog.remove_user("ada", entry("remove_user")).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
}

async fn links_sign_in_once(catalog: &impl Catalog, ada: &User) {
    let link = pass("l1", "ada", 60);
    catalog
        .add_link(&link, entry("add_link"))
        .await
        .expect("link");
    let nobody = catalog
        .add_link(&pass("l2", "bob", 60), entry("add_link"))
        .await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
    assert_eq!(
        catalog.link("l1", at(60)).await.expect("link"),
        None,
        "it is over"
    );
    assert_eq!(
        catalog.link("l1", at(59)).await.expect("link").as_ref(),
        Some(ada)
    );
    assert_eq!(
        catalog
            .take_link("l1", at(59))
            .await
            .expect("take")
            .as_ref(),
        Some(ada)
    );
    assert_eq!(
        catalog.take_link("l1", at(59)).await.expect("take"),
        None,
        "once"
    );
}

async fn sessions_hold_for_their_time(catalog: &impl Catalog, ada: &User) {
    let session = pass("s1", "ada", 60);
    catalog
        .add_session(&session, entry("sign_in"))
        .await
        .expect("session");
    assert_eq!(
        catalog.session("s1", at(60)).await.expect("session"),
        None,
        "it is over"
    );
    assert_eq!(
        catalog
            .session("s1", at(59))
            .await
            .expect("session")
            .as_ref(),
        Some(ada)
    );
    assert_eq!(catalog.sessions(at(1)).await.expect("sessions"), [session]);
    catalog.end_session("s1").await.expect("end");
    assert_eq!(catalog.session("s1", at(1)).await.expect("session"), None);
    let nobody = catalog
        .add_session(&pass("s2", "bob", 60), entry("sign_in"))
        .await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
    for hash in ["s3", "s4"] {
        let session = pass(hash, "ada", 60);
        let added = catalog.add_session(&session, entry("sign_in")).await;
        added.expect("session");
    }
    catalog
        .end_other_sessions("ada", "s4")
        .await
        .expect("end the others");
    let left = catalog.sessions(at(1)).await.expect("sessions");
    assert_eq!(left, [pass("s4", "ada", 60)]);
}
