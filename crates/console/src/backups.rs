//! Backups: when the last one was made, and how one is made.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_core::notation::thousands;
use tidemill_core::{Span, Timestamp};

use crate::html::{Html, html};
use crate::parts::{Tone, figure, figures, lasting, part_about, size, state, text, time};
use crate::visit::Visit;

/// A backup that is older is pointed at.
const OLD: Span = Span::from_days(7);

/// What is known of the newest backup of a data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When it was begun.
    pub at: Timestamp,
    /// Where it was put.
    pub folder: String,
    /// How many files it has.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl LastBackup {
    /// The file in the data folder that it is kept in, as JSON.
    pub const FILE: &str = "last_backup.json";

    /// Reads it; `None` where there is none, or what is there cannot be read, which the log says.
    fn read(data: &Path) -> Option<Self> {
        let path = data.join(Self::FILE);
        let text = std::fs::read(&path).ok()?;
        let read = serde_json::from_slice(&text);
        read.inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "cannot read the last backup"),
        )
        .ok()
    }
}

/// The part of the settings.
pub(crate) fn shown(visit: &Visit) -> Html {
    let data = &visit.console.folder;
    let lines = format!(
        "tidemill backup /backups/NAME --data {0}    # on this machine, while the server runs or is stopped\ntidemill backup --verify /backups/NAME",
        data.display()
    );
    let last = match LastBackup::read(data) {
        Some(last) => known(&last, visit.console.clock.now()),
        None => html!(
            "<p>{} <span class=\"quiet\">None is known of. Copies of the disk by other means are not seen here.</span></p>",
            state(Tone::Warning, "no backup yet")
        ),
    };
    let body = html!(
        "{}<div class=\"snippet\"><pre tabindex=\"0\"><code>{}</code></pre><button type=\"button\" class=\"button\" data-copy>Copy</button></div>",
        last,
        lines
    );
    part_about(
        "Backups",
        "A backup is a copy of the whole data folder as it was at one moment, with the hash of every file. The server may go on meanwhile. To restore, copy the folder data of the backup and start a server on it. Whoever is erased stays in older backups: keep them only as long as you may.",
        &body,
    )
}

fn known(last: &LastBackup, now: Timestamp) -> Html {
    let age = now.since(last.at);
    let word = if age > OLD {
        state(Tone::Warning, "older than a week")
    } else {
        state(Tone::Good, "within a week")
    };
    figures(&html!(
        "{}{}",
        figure(
            "last backup",
            &text(format!("{} ago", lasting(age))),
            &html!("{} {}", time(last.at), word)
        ),
        figure(
            "size",
            &text(size(last.bytes)),
            &html!("{} files in {}", thousands(last.files), last.folder)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_read_again_and_nonsense_is_none() {
        let folder = std::env::temp_dir().join(format!("tidemill-backups-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(LastBackup::read(&folder), None);
        let last = LastBackup {
            at: Timestamp::EPOCH,
            folder: "/b/<i>".to_owned(),
            files: 3,
            bytes: 5 << 20,
        };
        let path = folder.join(LastBackup::FILE);
        std::fs::write(&path, serde_json::to_vec(&last).unwrap()).unwrap();
        assert_eq!(LastBackup::read(&folder), Some(last.clone()));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(LastBackup::read(&folder), None);
        std::fs::remove_dir_all(&folder).unwrap();
        let shown = known(&last, Timestamp::EPOCH + Span::from_days(8)).into_string();
        for part in [
            "8 days ago",
            "older than a week",
            "5 MiB",
            "3 files in /b/&lt;i&gt;",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
