//! Settings: the viewer's password, users, keys, backups, the audit log, and the settings that are in force.

use std::collections::BTreeSet;

use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::{Redirect, Response};
use tidemill_core::ProjectName;
use tidemill_store::catalog::{AuditEntry, Scope};
use tidemill_store::keys::{self, create_key};
use tidemill_store::users::{Role, User, check_user_name, projects_in_words};

use crate::backups;
use crate::console::new_link;
use crate::html::{Html, html};
use crate::layout::{Action, Page, Section, ask_first, token_field};
use crate::parts::{Table, Tone, section, state, text, time};
use crate::problem::Problem;
use crate::secret;
use crate::visit::{Act, Form, Visit};

/// How many audit entries are shown.
const AUDIT_SHOWN: u32 = 100;
/// The field that gives a user all projects.
const ALL_PROJECTS: &str = "all";
/// How the fields begin that give a user one project each.
const GIVEN: &str = "project:";

/// The page.
pub(crate) async fn page(visit: Visit, Query(query): Query<Form>) -> Result<Response, Problem> {
    let done = query.get("done").map(|_| {
        html!(
            "<p class=\"calm\" role=\"status\">{}</p>",
            state(Tone::Good, "saved")
        )
    });
    let for_admins = if visit.viewer.may(Role::Admin) {
        html!("{}{}", users(&visit).await?, keys(&visit).await?)
    } else {
        html!(
            "<p class=\"quiet\">Users, keys, the audit log and the settings in force are for the role admin.</p>"
        )
    };
    let further = if visit.viewer.may(Role::Admin) {
        html!(
            "{}{}{}",
            backups::shown(&visit),
            audit(&visit).await?,
            in_force(&visit)
        )
    } else {
        Html::default()
    };
    let body = html!("{}{}{}{}", done, password_form(&visit), for_admins, further);
    visit.page(&Page::new(Section::Settings, "Settings", body))
}

fn password_form(visit: &Visit) -> Html {
    let has = if visit.viewer.user.password.is_some() {
        "You have a password."
    } else {
        "You have no password yet: only links sign you in."
    };
    let form = html!(
        "<form method=\"post\" action=\"{}\" class=\"filters\">{}<label>New password<input type=\"password\" name=\"password\" minlength=\"10\" maxlength=\"256\" autocomplete=\"new-password\" required></label><button class=\"button\">Set password</button></form>",
        visit.path("/settings/password"),
        token_field(&visit.viewer),
    );
    section("You", has, &form)
}

async fn users(visit: &Visit) -> Result<Html, Problem> {
    let (console, viewer) = (&visit.console, &visit.viewer);
    let sessions = console.catalog.sessions(console.clock.now()).await?;
    let mut table = Table::new(
        "users",
        &[
            "Name",
            "Role",
            "Projects",
            "Password",
            "#Sessions",
            "Since",
            "Actions",
        ],
    );
    for user in console.catalog.users().await? {
        let open = sessions
            .iter()
            .filter(|session| session.user == user.name)
            .count();
        table.row([
            text(&user.name),
            text(user.role.as_str()),
            text(user.sees_in_words()),
            text(if user.password.is_some() { "yes" } else { "no" }),
            html!("{}", open),
            time(user.created_at),
            actions(visit, &user),
        ]);
    }
    let roles = Role::ALL.map(|role| html!("<option>{}</option>", role.as_str()));
    let form = html!(
        "<form method=\"post\" action=\"{}\" class=\"filters\">{}<label>Name<input name=\"name\" required maxlength=\"64\"></label><label>Role<select name=\"role\">{}</select></label><button class=\"button\">Add, or change the role</button></form>",
        visit.path("/settings/users"),
        token_field(viewer),
        roles.into_iter().collect::<Html>(),
    );
    Ok(section(
        "Users",
        "A viewer looks. An editor also promotes, rolls back, trains and silences. An admin also decides who may, and sees all projects; the others see those that they were given.",
        &html!("{}{}", table.show(), form),
    ))
}

/// What can be done with a user.
fn actions(visit: &Visit, user: &User) -> Html {
    let viewer = &visit.viewer;
    let name = html!(
        "<input type=\"hidden\" name=\"name\" value=\"{}\">",
        user.name
    );
    let ask = |path: &str, button, means, fields| {
        let action = Action {
            path: "",
            button,
            means,
            fields,
        };
        ask_first(viewer, &visit.path(path), &action)
    };
    let link = ask(
        "/settings/users/link",
        "Link",
        "Makes a link that signs this user in once, within a day. Give it to nobody else.",
        name.clone(),
    );
    let projects = (user.role != Role::Admin).then(|| {
        ask(
            "/settings/users/projects",
            "Projects",
            "They see these projects, and do there what their role allows, from now on.",
            html!("{}{}", name, project_fields(visit, user)),
        )
    });
    let remove = (user.name != viewer.user.name).then(|| {
        ask(
            "/settings/users/remove",
            "Remove",
            "Their sessions end at once. What they did stays in the audit log.",
            name.clone(),
        )
    });
    html!(
        "<div class=\"actions\">{}{}{}</div>",
        link,
        projects,
        remove
    )
}

/// A tick for all projects, and one for each that is served or was given.
fn project_fields(visit: &Visit, user: &User) -> Html {
    let tick = |name: &str, label: &str, is_set: bool| {
        let checked = if is_set {
            html!(" checked")
        } else {
            Html::default()
        };
        html!(
            "<label class=\"tick\"><input type=\"checkbox\" name=\"{}\" value=\"yes\"{}>{}</label>",
            name,
            checked,
            label
        )
    };
    let given = user.projects.as_ref();
    let served = visit.console.names_seen(&visit.viewer.user);
    let names: BTreeSet<&ProjectName> = served
        .into_iter()
        .chain(given.into_iter().flatten())
        .collect();
    let each = names.into_iter().map(|name| {
        let is_given = given.is_some_and(|given| given.contains(name));
        tick(&format!("{GIVEN}{name}"), name.as_str(), is_given)
    });
    let all = tick(ALL_PROJECTS, "all, also those to come", given.is_none());
    html!("{}{}", all, each.collect::<Html>())
}

async fn keys(visit: &Visit) -> Result<Html, Problem> {
    let mut table = Table::new("keys", &["Key", "Scope", "Made", "State", "Actions"]);
    for key in visit.console.catalog.keys().await? {
        if key.project != visit.project.project.name {
            continue;
        }
        let is_valid = key.revoked_at.is_none();
        let shown = if is_valid {
            state(Tone::Good, "valid")
        } else {
            state(Tone::Quiet, "revoked")
        };
        let revoke = is_valid.then(|| {
            let action = Action {
                path: "/settings/keys/revoke",
                button: "Revoke",
                means: "What uses this key is refused at once, for good.",
                fields: html!("<input type=\"hidden\" name=\"id\" value=\"{}\">", key.id),
            };
            visit.action(Role::Admin, &action)
        });
        table.row([
            html!("<code>{}…</code>", key.id),
            text(key.scope.to_string()),
            time(key.created_at),
            shown,
            html!("{}", revoke),
        ]);
    }
    let scopes = [
        ("write", "write: sends events"),
        ("read", "read: asks for answers"),
        ("admin", "admin: everything"),
    ];
    let scopes =
        scopes.map(|(scope, means)| html!("<option value=\"{}\">{}</option>", scope, means));
    let form = html!(
        "<form method=\"post\" action=\"{}\" class=\"filters\">{}<label>A new key may<select name=\"scope\">{}</select></label><button class=\"button\">Make key</button></form>",
        visit.path("/settings/keys"),
        token_field(&visit.viewer),
        scopes.into_iter().collect::<Html>(),
    );
    Ok(section(
        "Keys of programs",
        "A key is shown once, when it is made: only its hash is stored.",
        &html!("{}{}", table.or(&html!("<p>No keys yet.</p>")), form),
    ))
}

async fn audit(visit: &Visit) -> Result<Html, Problem> {
    let catalog = &visit.console.catalog;
    let mut entries = catalog
        .audit_log(&visit.project.project.name, AUDIT_SHOWN)
        .await?;
    entries.extend(catalog.server_audit_log(AUDIT_SHOWN).await?);
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    let mut table = Table::new(
        "audit log",
        &["When", "Who", "What", "On what", "Why", "Project"],
    );
    for entry in entries.iter().take(AUDIT_SHOWN as usize) {
        let project = entry
            .project
            .as_ref()
            .map_or("server", |name| name.as_str());
        table.row([
            time(entry.at),
            text(&entry.actor),
            text(entry.action.replace('_', " ")),
            text(&entry.subject),
            text(&entry.reason),
            text(project),
        ]);
    }
    Ok(section(
        "Audit log",
        "Who changed what, when and why: of this project and of the server.",
        &table.or(&html!("<p>Nothing was changed yet.</p>")),
    ))
}

fn in_force(visit: &Visit) -> Html {
    let mut table = Table::new("settings in force", &["Setting", "Value", "From"]);
    for (name, value, from) in &visit.console.settings {
        table.row([html!("<code>{}</code>", name), text(value), text(from)]);
    }
    let file = html!(
        "<details class=\"numbers\"><summary>The project file</summary><pre tabindex=\"0\"><code>{}</code></pre></details>",
        visit.project.project.text
    );
    section(
        "Settings in force",
        "",
        &html!("{}{}", table.or(&html!("<p>The defaults.</p>")), file),
    )
}

/// Sets the viewer's own password.
pub(crate) async fn password(act: Act<Visit>) -> Result<Redirect, Problem> {
    let (console, viewer) = (&act.who.console, &act.who.viewer);
    let password = act.form.get("password").cloned().unwrap_or_default();
    let random = (console.random)();
    let _place = console
        .passwords
        .acquire()
        .await
        .map_err(|_| Problem::busy())?;
    let hashed = tokio::task::spawn_blocking(move || secret::hash_password(&password, random));
    let hashed = hashed
        .await
        .map_err(|_| Problem::busy())?
        .map_err(Problem::bad)?;
    let user = User {
        password: Some(hashed),
        ..viewer.user.clone()
    };
    let audit = console.entry(&viewer.actor(), "set_password", &user.name);
    console.catalog.put_user(&user, audit).await?;
    // whoever knew the old one, or held a link, is out
    console
        .catalog
        .end_other_sessions(&user.name, &viewer.session)
        .await?;
    Ok(Redirect::to(&act.who.path("/settings?done=yes")))
}

/// Adds a user, or changes a role.
pub(crate) async fn put_user(act: Act<Visit>) -> Result<Redirect, Problem> {
    let (console, viewer) = (&act.who.console, &act.who.viewer);
    viewer.check(Role::Admin)?;
    let name = act.field("name");
    check_user_name(name).map_err(Problem::bad)?;
    let role: Role = act
        .field("role")
        .parse()
        .map_err(|error: String| Problem::bad(error))?;
    if name == viewer.user.name && role != Role::Admin {
        return Err(Problem::refused(
            "You cannot take the role admin from yourself: another admin can.",
        ));
    }
    let known = console
        .catalog
        .users()
        .await?
        .into_iter()
        .find(|user| user.name == name);
    let action = if known.is_some() {
        "set_role"
    } else {
        "add_user"
    };
    let user = known.unwrap_or_else(|| User {
        name: name.to_owned(),
        role,
        password: None,
        created_at: console.clock.now(),
        projects: None,
    });
    let audit = AuditEntry {
        reason: role.to_string(),
        ..console.entry(&viewer.actor(), action, name)
    };
    console
        .catalog
        .put_user(&User { role, ..user }, audit)
        .await?;
    Ok(Redirect::to(&act.who.path("/settings?done=yes")))
}

/// Gives a user projects: all of them, or those that are ticked.
pub(crate) async fn set_projects(act: Act<Visit>) -> Result<Redirect, Problem> {
    let (console, viewer) = (&act.who.console, &act.who.viewer);
    viewer.check(Role::Admin)?;
    let name = act.field("name");
    let users = console.catalog.users().await?;
    let user = users.iter().find(|user| user.name == name);
    if user.is_some_and(|user| user.role == Role::Admin) {
        return Err(Problem::refused(
            "An admin sees all projects. Give them another role first.",
        ));
    }
    let given = if act.form.contains_key(ALL_PROJECTS) {
        None
    } else {
        let ticked = act.form.keys().filter_map(|name| name.strip_prefix(GIVEN));
        let names: Result<BTreeSet<ProjectName>, _> = ticked.map(str::parse).collect();
        Some(names.map_err(|_| Problem::bad("A project cannot have such a name."))?)
    };
    let audit = AuditEntry {
        reason: projects_in_words(given.as_ref()),
        ..console.entry(&viewer.actor(), "set_projects", name)
    };
    let catalog = &console.catalog;
    catalog.set_projects(name, given.as_ref(), audit).await?;
    Ok(Redirect::to(&act.who.path("/settings?done=yes")))
}

/// Removes a user.
pub(crate) async fn remove_user(act: Act<Visit>) -> Result<Redirect, Problem> {
    let (console, viewer) = (&act.who.console, &act.who.viewer);
    viewer.check(Role::Admin)?;
    let name = act.field("name");
    if name == viewer.user.name {
        return Err(Problem::refused(
            "You cannot remove yourself: another admin can.",
        ));
    }
    let audit = console.entry(&viewer.actor(), "remove_user", name);
    console.catalog.remove_user(name, audit).await?;
    Ok(Redirect::to(&act.who.path("/settings?done=yes")))
}

/// Makes a key and shows it, once.
pub(crate) async fn make_key(act: Act<Visit>) -> Result<Response, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Admin)?;
    let scope: Scope = act
        .field("scope")
        .parse()
        .map_err(|_| Problem::bad("A key may write, read or admin."))?;
    let (secret, _) = create_key(
        visit.console.catalog.as_ref(),
        &visit.project.project.name,
        scope,
        (visit.console.random)(),
        visit.console.clock.now(),
        &visit.viewer.actor(),
    )
    .await?;
    shown_once(
        visit,
        "New key",
        &html!(
            "It may <strong>{}</strong>, and is shown only now.",
            scope.to_string()
        ),
        secret.expose(),
    )
}

/// Revokes a key.
pub(crate) async fn revoke_key(act: Act<Visit>) -> Result<Redirect, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Admin)?;
    let (console, project) = (&visit.console, &visit.project.project.name);
    let (catalog, now) = (console.catalog.as_ref(), console.clock.now());
    let actor = visit.viewer.actor();
    keys::revoke_key(catalog, project, act.field("id"), now, &actor).await?;
    Ok(Redirect::to(&visit.path("/settings?done=yes")))
}

/// A page with a secret that is not shown again.
fn shown_once(visit: &Visit, title: &str, means: &Html, secret: &str) -> Result<Response, Problem> {
    let body = html!(
        "<p>{}</p><div class=\"snippet\"><pre tabindex=\"0\"><code>{}</code></pre><button type=\"button\" class=\"button\" data-copy>Copy</button></div>",
        means,
        secret
    );
    visit.page(&Page {
        section: Section::Settings,
        title,
        trail: &[("Settings", visit.path("/settings"))],
        actions: Html::default(),
        body,
    })
}

/// Makes a link for a user and shows it, once.
pub(crate) async fn link(headers: HeaderMap, act: Act<Visit>) -> Result<Response, Problem> {
    let visit = &act.who;
    visit.viewer.check(Role::Admin)?;
    let console = &visit.console;
    let name = act.field("name");
    let path = new_link(
        console.catalog.as_ref(),
        console.clock.as_ref(),
        (console.random)(),
        name,
        &visit.viewer.actor(),
    )
    .await?;
    let origin = headers
        .get(header::ORIGIN)
        .and_then(|origin| origin.to_str().ok())
        .unwrap_or_default();
    let means = html!(
        "It signs <strong>{}</strong> in once, within a day, and is shown only now.",
        name
    );
    shown_once(visit, "Link for a user", &means, &format!("{origin}{path}"))
}
