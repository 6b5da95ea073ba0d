//! Server settings: `[server]` of tidemill.toml, environment variables, flags, in that rising order.
//!
//! Each setting is one row of [`SETTINGS`]: its name, its default and what it means. The environment variable is the
//! name in capitals after `TIDEMILL_`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tidemill_core::Span;

use crate::courier::MailServer;

/// One setting.
pub struct Setting {
    /// As in tidemill.toml.
    pub name: &'static str,
    /// The value where nothing else is said.
    pub default: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
    check: fn(&str) -> Result<()>,
}

fn parses<T: FromStr>(text: &str) -> Result<()>
where
    T::Err: fmt::Display,
{
    text.parse::<T>()
        .map(drop)
        .map_err(|error| anyhow!("{error}"))
}

fn positive(text: &str) -> Result<()> {
    match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(()),
        _ => bail!("'{text}' is not a whole number above 0"),
    }
}

fn check_mail_server(url: &str) -> Result<()> {
    MailServer::new(url, "tidemill@localhost").map(drop)
}

fn check_address(address: &str) -> Result<()> {
    MailServer::new("", address).map(drop)
}

fn anything(_: &str) -> Result<()> {
    Ok(())
}

/// Every setting of the server.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "data",
        default: "tidemill-data",
        help: "the data folder",
        check: anything,
    },
    Setting {
        name: "listen",
        default: "127.0.0.1:7878",
        help: "address and port; only this machine can reach 127.0.0.1",
        check: parses::<std::net::SocketAddr>,
    },
    Setting {
        name: "log",
        default: "warn",
        help: "what is logged to standard error: error, warn, info, debug, or a filter per module",
        check: anything,
    },
    Setting {
        name: "landing_age",
        default: "60s",
        help: "events this old land in the lake",
        check: parses::<Span>,
    },
    Setting {
        name: "landing_events",
        default: "50000",
        help: "that many waiting events land at once",
        check: positive,
    },
    Setting {
        name: "commit_events",
        default: "10000",
        help: "features are committed at least after so many events",
        check: positive,
    },
    Setting {
        name: "log_keep_events",
        default: "20000",
        help: "events kept in the log after they have landed",
        check: positive,
    },
    Setting {
        name: "decisions_keep",
        default: "200000",
        help: "decisions kept at hand after they have landed",
        check: positive,
    },
    Setting {
        name: "datasets_keep",
        default: "10",
        help: "datasets of each model whose rows are kept, beside that of the champion; records always are",
        check: positive,
    },
    Setting {
        name: "cache_entries",
        default: "200000",
        help: "persons, items and other entities whose features are held in memory",
        check: positive,
    },
    Setting {
        name: "training_threads",
        default: "auto",
        help: "threads of training; auto is half of the cores, all is every one",
        check: |text| {
            if text == "auto" || text == "all" {
                Ok(())
            } else {
                positive(text)
            }
        },
    },
    Setting {
        name: "consistency_share",
        default: "0.01",
        help: "share of the answers whose features are read again offline, from 0 to 1",
        check: |text| match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(()),
            _ => bail!("'{text}' is not a share from 0 to 1"),
        },
    },
    Setting {
        name: "replay_memory_bytes",
        default: "1073741824",
        help: "memory that the events of a dataset may take before they go to disk",
        check: positive,
    },
    Setting {
        name: "smtp_url",
        default: "",
        help: "the server that takes e-mails of alerts: smtps://user:password@host, or smtp://host:port?tls=required",
        check: check_mail_server,
    },
    Setting {
        name: "smtp_from",
        default: "tidemill@localhost",
        help: "the sender of these e-mails",
        check: check_address,
    },
    Setting {
        name: "event_bytes_max",
        default: "32768",
        help: "largest event in bytes",
        check: positive,
    },
    Setting {
        name: "batch_bytes_max",
        default: "512000",
        help: "largest batch in bytes",
        check: positive,
    },
    Setting {
        name: "batch_events_max",
        default: "2500",
        help: "most events in a batch",
        check: positive,
    },
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nothing was said.
    Default,
    /// tidemill.toml.
    File,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The value.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The effective settings.
#[derive(Debug, Clone)]
pub struct Config(BTreeMap<&'static str, Effective>);

impl Config {
    /// Reads the settings; `file` must exist where it is named, otherwise `tidemill.toml` is read where there is one.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self> {
        let defaults = SETTINGS.iter().map(|setting| {
            (
                setting.name,
                Effective {
                    value: setting.default.to_owned(),
                    origin: Origin::Default,
                },
            )
        });
        let mut config = Self(defaults.collect());
        for (name, value) in read_file(file)? {
            config.set(&name, &value, Origin::File)?;
        }
        for setting in SETTINGS {
            if let Ok(value) = std::env::var(variable(setting.name)) {
                config.set(setting.name, &value, Origin::Environment)?;
            }
        }
        for (name, value) in flags {
            config.set(name, value, Origin::Flag)?;
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<()> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
            bail!(
                "there is no setting '{name}'; known are {}",
                known.join(", ")
            );
        };
        let place = match origin {
            Origin::Environment => variable(name),
            _ => name.to_owned(),
        };
        (setting.check)(value).with_context(|| format!("setting {place}"))?;
        self.0.insert(
            setting.name,
            Effective {
                value: value.to_owned(),
                origin,
            },
        );
        Ok(())
    }

    /// All settings in the order of [`SETTINGS`].
    pub fn effective(&self) -> impl Iterator<Item = (&Setting, &Effective)> {
        SETTINGS
            .iter()
            .filter_map(|setting| Some((setting, self.0.get(setting.name)?)))
    }

    /// All settings as they may be shown: without the passwords in URLs.
    pub fn shown(&self) -> impl Iterator<Item = (&Setting, Effective)> {
        let masked = |value: &str| {
            let (scheme, rest) = value.split_once("://")?;
            let (login, host) = rest.rsplit_once('@')?;
            let (user, _) = login.split_once(':')?;
            Some(format!("{scheme}://{user}:…@{host}"))
        };
        self.effective().map(move |(setting, found)| {
            let value = masked(&found.value).unwrap_or_else(|| found.value.clone());
            let origin = found.origin.clone();
            (setting, Effective { value, origin })
        })
    }

    /// A value as text.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |effective| &effective.value)
    }

    /// A value that was checked to read as `T` when it was set.
    pub fn get<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T> {
        self.text(name)
            .parse()
            .map_err(|error| anyhow!("setting {name}: {error}"))
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        PathBuf::from(self.text("data"))
    }
}

/// `TIDEMILL_LISTEN` for `listen`.
pub fn variable(name: &str) -> String {
    format!("TIDEMILL_{}", name.to_uppercase())
}

fn read_file(file: Option<&Path>) -> Result<Vec<(String, String)>> {
    let path = file.unwrap_or(Path::new("tidemill.toml"));
    if file.is_none() && !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let table: toml::Table = text
        .parse()
        .with_context(|| format!("read {}", path.display()))?;
    let Some(server) = table.get("server") else {
        return Ok(Vec::new());
    };
    let server = server
        .as_table()
        .with_context(|| format!("{}: [server] is not a table", path.display()))?;
    let text_of = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(server
        .iter()
        .map(|(name, value)| (name.clone(), text_of(value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_errors_name_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidemill.toml");
        std::fs::write(
            &path,
            "[server]\nlisten = \"127.0.0.1:1\"\nlanding_events = 7\n",
        )
        .unwrap();
        let flags = [("listen".to_owned(), "127.0.0.1:2".to_owned())];
        let config = Config::load(Some(&path), &flags).unwrap();
        assert_eq!(config.text("listen"), "127.0.0.1:2");
        assert_eq!(config.get::<u64>("landing_events").unwrap(), 7);
        let wrong = [("listen".to_owned(), "nowhere".to_owned())];
        assert!(format!("{:#}", Config::load(Some(&path), &wrong).unwrap_err()).contains("listen"));
        let unknown = [("lissen".to_owned(), "x".to_owned())];
        assert!(
            format!("{:#}", Config::load(Some(&path), &unknown).unwrap_err()).contains("lissen")
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let flags = [(
            "smtp_url".to_owned(),
            "smtps://me:secret@mail.example.com".to_owned(),
        )];
        let config = Config::load(None, &flags).unwrap();
        let mut shown = config.shown();
        let (_, url) = shown
            .find(|(setting, _)| setting.name == "smtp_url")
            .unwrap();
        assert_eq!(url.value, "smtps://me:…@mail.example.com");
        for wrong in ["mail.example.com", "http://mail.example.com"] {
            assert!(check_mail_server(wrong).is_err(), "{wrong}");
        }
        assert!(check_address("nobody").is_err());
    }

    #[test]
    fn every_default_is_valid() {
        for setting in SETTINGS {
            (setting.check)(setting.default).unwrap();
        }
    }
}
