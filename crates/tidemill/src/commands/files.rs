//! `init`, `check` and `config`: what only looks at files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tidemill_core::ProjectName;
use tidemill_core::project::{Project, ProjectError};
use tidemill_cycle::examine::{metric_of, minimums_of};
use tidemill_cycle::recommend::recommender_of;
use tidemill_features::FeatureSet;
use tidemill_serve::package::task_of;
use tidemill_serve::recommend::Rulebook;

use crate::cli::InitArgs;
use crate::config::{Config, variable};
use crate::output::{Output, table};

/// A first project file; `{name}` is replaced.
const FIRST: &str = include_str!("first_project.toml");

/// Writes a first project file.
pub fn init(args: &InitArgs, output: Output) -> Result<()> {
    let name: ProjectName = match &args.name {
        Some(name) => name.parse()?,
        None => folder_name().unwrap_or_else(|| "shop".to_owned()).parse()?,
    };
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| format!("{name}.toml").into());
    if path.exists() {
        bail!(
            "{} exists already; --out names another file",
            path.display()
        );
    }
    std::fs::write(&path, FIRST.replace("{name}", name.as_str()))
        .with_context(|| format!("write {}", path.display()))?;
    let path = path.display().to_string();
    output.result(&json!({ "project": name, "file": path }), |_| {
        format!(
            "wrote {path}\n\nNext:\n  tidemill check --project {path}\n  tidemill serve --project {path}\n  tidemill keys create --project {name} --scope write"
        )
    });
    Ok(())
}

fn folder_name() -> Option<String> {
    let folder = std::env::current_dir().ok()?;
    let name = folder
        .file_name()?
        .to_str()?
        .to_lowercase()
        .replace([' ', '.'], "-");
    name.parse::<ProjectName>().ok().map(String::from)
}

/// Everything that is wrong with a project: as parsed, as compiled, as examined.
pub fn problems(project: &Project) -> Result<(), ProjectError> {
    let mut problems = Vec::new();
    let mut collect = |result: Result<(), ProjectError>| {
        if let Err(error) = result {
            problems.extend(error.problems);
        }
    };
    match FeatureSet::compile(project, &project.features) {
        // without declared features, models cannot name any yet
        Ok(set) if !project.features.is_empty() => {
            for model in project.models.values() {
                collect(set.select(model).map(drop));
            }
            for model in project.recommenders.values() {
                collect(set.select_for_lists(model).map(drop));
                collect(Rulebook::compile(project, model, &set).map(drop));
            }
        }
        Ok(_) => {}
        Err(error) => collect(Err(error)),
    }
    for model in project.models.values() {
        let task = task_of(&model.target);
        collect(metric_of(model, &task).map(drop));
        collect(minimums_of(model, &task).map(drop));
    }
    for model in project.recommenders.values() {
        collect(recommender_of(model).map(drop));
    }
    ProjectError::check(problems)
}

/// Checks a project file.
pub fn check(path: &Path, output: Output) -> Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the project file {}", path.display()))?;
    let result = Project::parse(&text).and_then(|project| problems(&project).map(|()| project));
    match result {
        Ok(project) => {
            let models: Vec<&str> = project
                .model_names()
                .map(tidemill_core::ModelName::as_str)
                .collect();
            let value = json!({ "ok": true, "project": project.name, "models": models });
            output.result(&value, |_| {
                let models = if models.is_empty() {
                    "no models yet".to_owned()
                } else {
                    models.join(", ")
                };
                format!(
                    "{} is fine: project {} with {models}",
                    path.display(),
                    project.name
                )
            });
            Ok(())
        }
        Err(error) if output.is_json() => {
            output.json_line(&json!({ "ok": false, "problems": error.problems }));
            bail!("{} has {} problems", path.display(), error.problems.len())
        }
        Err(error) => bail!("{} has problems\n{error}", path.display()),
    }
}

/// Prints the effective settings and where each comes from.
pub fn config(config: &Config, output: Output) -> Result<()> {
    let settings: Vec<_> = config
        .shown()
        .map(|(setting, effective)| {
            json!({
                "name": setting.name, "value": effective.value, "origin": effective.origin,
                "environment": variable(setting.name), "help": setting.help,
            })
        })
        .collect();
    output.result(&json!({ "settings": settings }), |_| {
        let rows: Vec<Vec<String>> = config
            .shown()
            .map(|(setting, effective)| {
                let origin = format!("{:?}", effective.origin).to_lowercase();
                vec![setting.name.to_owned(), effective.value.clone(), origin, setting.help.to_owned()]
            })
            .collect();
        format!(
            "{}\n\nSet them in [server] of tidemill.toml, as TIDEMILL_NAME in the environment, or with --set name=value.",
            table(&["setting", "value", "from", "meaning"], &rows)
        )
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_project_file_is_fine() {
        let project = Project::parse(&FIRST.replace("{name}", "shop")).unwrap();
        problems(&project).unwrap();
    }
}
