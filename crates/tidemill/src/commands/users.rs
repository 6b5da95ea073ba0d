//! `users`: who may use the console. Whoever can write the data folder may say so; a server that runs on it need not stop.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, ProjectName};
use tidemill_store::catalog::AuditEntry;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::users::{Role, User, Users, check_user_name, projects_in_words};
use tidemill_store::{Catalog, DataFolder, StoreError};

use crate::cli::UsersCommand;
use crate::config::Config;
use crate::node::{ACTOR, browser_url, random};
use crate::output::{Output, table};
use crate::server_file;

/// Carries out a subcommand.
pub async fn run(config: &Config, command: &UsersCommand, output: Output) -> Result<()> {
    let catalog = open(config).await?;
    let carried_out = carry_out(config, &catalog, command, output).await;
    catalog.close().await;
    carried_out
}

async fn open(config: &Config) -> Result<SqliteCatalog> {
    let path = config.data();
    if !path.is_dir() {
        bail!(
            "there is no data folder {}: --data names another one",
            path.display()
        );
    }
    match DataFolder::open(&path) {
        Ok(folder) => Ok(SqliteCatalog::open(&folder).await?),
        Err(StoreError::Locked { .. }) => {
            Ok(SqliteCatalog::open_beside(&path.join("catalog.sqlite")).await?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn carry_out(
    config: &Config,
    catalog: &SqliteCatalog,
    command: &UsersCommand,
    output: Output,
) -> Result<()> {
    match command {
        UsersCommand::Add { name, role, .. } => {
            check_user_name(name).map_err(|error| anyhow!(error))?;
            if find(catalog, name).await.is_ok() {
                bail!(
                    "there is a user '{name}' already: `tidemill users role {name} {role}` changes what they may do"
                );
            }
            let user = User {
                name: name.clone(),
                role: *role,
                password: None,
                created_at: SystemClock.now(),
                projects: None,
            };
            let audit = entry("add_user", name, role.as_str());
            catalog.put_user(&user, audit).await?;
            link(config, catalog, name, *role, output).await
        }
        UsersCommand::List(_) => list(catalog, output).await,
        UsersCommand::Role { name, role, .. } => {
            let user = find(catalog, name).await?;
            let audit = entry("set_role", name, role.as_str());
            catalog
                .put_user(
                    &User {
                        role: *role,
                        ..user
                    },
                    audit,
                )
                .await?;
            output.result(&json!({ "user": name, "role": role.as_str() }), |_| {
                format!("{name} is {role} from now on")
            });
            Ok(())
        }
        UsersCommand::Projects {
            name,
            projects,
            all,
            ..
        } => {
            let given = (!all).then(|| projects.iter().cloned().collect());
            set_projects(catalog, name, given, output).await
        }
        UsersCommand::Link { name, .. } => {
            let user = find(catalog, name).await?;
            link(config, catalog, name, user.role, output).await
        }
        UsersCommand::Remove { name, .. } => {
            find(catalog, name).await?;
            catalog
                .remove_user(name, entry("remove_user", name, ""))
                .await?;
            output.result(&json!({ "removed": name }), |_| {
                format!("{name} is removed")
            });
            Ok(())
        }
    }
}

/// Gives a user these projects; `None` for all.
async fn set_projects(
    catalog: &SqliteCatalog,
    name: &str,
    given: Option<BTreeSet<ProjectName>>,
    output: Output,
) -> Result<()> {
    if find(catalog, name).await?.role == Role::Admin {
        bail!("an admin sees all projects: `tidemill users role {name} editor` takes that away");
    }
    let known = catalog.projects().await?;
    let unknown = given.iter().flatten().find(|name| !known.contains(name));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = known.iter().map(ProjectName::as_str).collect();
        bail!(
            "there is no project '{unknown}' in this data folder, but {}",
            known.join(", ")
        );
    }
    let sees = projects_in_words(given.as_ref());
    let audit = entry("set_projects", name, &sees);
    catalog.set_projects(name, given.as_ref(), audit).await?;
    output.result(&json!({ "user": name, "projects": given }), |_| {
        format!("{name} sees {sees} from now on")
    });
    Ok(())
}

async fn find(catalog: &SqliteCatalog, name: &str) -> Result<User> {
    let users = catalog.users().await?;
    let found = users.into_iter().find(|user| user.name == name);
    found.with_context(|| format!("there is no user '{name}': `tidemill users list` shows all"))
}

async fn list(catalog: &SqliteCatalog, output: Output) -> Result<()> {
    let users = catalog.users().await?;
    let lines = users.iter().map(|user| {
        json!({ "name": user.name, "role": user.role.as_str(), "projects": user.projects, "has_password": user.password.is_some(), "created_at": user.created_at })
    });
    let lines: Vec<_> = lines.collect();
    output.result(&json!({ "users": lines }), |_| {
        let rows = users.iter().map(|user| {
            let password = if user.password.is_some() { "yes" } else { "no" };
            vec![
                user.name.clone(),
                user.role.to_string(),
                user.sees_in_words(),
                password.to_owned(),
                user.created_at.to_string(),
            ]
        });
        table(
            &["name", "role", "projects", "password", "added"],
            &rows.collect::<Vec<_>>(),
        )
    });
    Ok(())
}

async fn link(
    config: &Config,
    catalog: &SqliteCatalog,
    name: &str,
    role: Role,
    output: Output,
) -> Result<()> {
    let path = tidemill_console::new_link(catalog, &SystemClock, random(), name, ACTOR).await?;
    let running = server_file::read(&config.data()).ok();
    let running = running.and_then(|server| server.address.parse().ok());
    let address: SocketAddr = match running {
        Some(address) => address,
        None => config.get("listen")?,
    };
    let link = browser_url(address, &path);
    output.result(
        &json!({ "user": name, "role": role.as_str(), "link": link }),
        |_| format!("{link}\n\nIt signs {name} ({role}) in once, within a day."),
    );
    Ok(())
}

fn entry(action: &str, subject: &str, reason: &str) -> AuditEntry {
    AuditEntry {
        at: SystemClock.now(),
        project: None,
        actor: ACTOR.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        reason: reason.to_owned(),
    }
}
