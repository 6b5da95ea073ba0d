//! Reads where alerts go.

use super::reader::{Entry, Table};

/// Where alerts are sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertTargets {
    /// URLs that get each message as JSON.
    pub webhooks: Vec<String>,
    /// URLs that get each message as Slack's incoming webhooks take it: `{"text": …}`.
    pub slack: Vec<String>,
    /// Addresses that get each message as e-mail, through the server that the process is told of.
    pub email: Vec<String>,
    /// The share of days on which something false may be said of the data, above 0 and at most 0.5; a default where absent.
    pub false_alarms: Option<f64>,
    /// What one answer in a hundred may take, in milliseconds; a default where absent.
    pub latency_p99_ms: Option<f64>,
    /// The share of answers that may fail, above 0 and at most 0.5; a default where absent.
    pub errors: Option<f64>,
}

pub(super) fn read_alerts(mut table: Table<'_, '_>) -> AlertTargets {
    let mut urls = |key: &'static str| {
        let entries = table.get(key).and_then(|entry| entry.strings());
        entries
            .into_iter()
            .flatten()
            .filter_map(|entry| read_url(&entry))
            .collect()
    };
    let (webhooks, slack) = (urls("webhooks"), urls("slack"));
    let mut rate = |key: &'static str, like: &str| {
        let entry = table.get(key)?;
        read_rate(&entry, like)
    };
    let false_alarms = rate(
        "false_alarms",
        "a share of the days, like 0.01 for one in a hundred",
    );
    let errors = rate(
        "errors",
        "a share of the answers, like 0.01 for one in a hundred",
    );
    let latency_p99_ms = table.get("latency_p99_ms").and_then(|entry| {
        let number = entry.number()?;
        if number <= 0.0 {
            entry.problem(format!("{number} is not above 0"), None);
        }
        Some(number)
    });
    let addresses = table.get("email").and_then(|entry| entry.strings());
    let addresses = addresses.into_iter().flatten();
    let targets = AlertTargets {
        webhooks,
        slack,
        email: addresses.filter_map(|entry| read_address(&entry)).collect(),
        false_alarms,
        latency_p99_ms,
        errors,
    };
    table.finish();
    targets
}

fn read_rate(entry: &Entry<'_, '_>, like: &str) -> Option<f64> {
    let rate = entry.number()?;
    if rate > 0.0 && rate <= 0.5 {
        return Some(rate);
    }
    let hint = Some(like.to_owned());
    entry.problem(format!("{rate} is not above 0 and at most 0.5"), hint);
    None
}

fn read_url(entry: &Entry<'_, '_>) -> Option<String> {
    let url = entry.string()?;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
        return Some(url);
    }
    let hint = "for example https://example.com/hooks/tidemill".to_owned();
    entry.problem("it is not the URL of a webhook", Some(hint));
    None
}

fn read_address(entry: &Entry<'_, '_>) -> Option<String> {
    let address = entry.string()?;
    let is_plain = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "@<>,;\"".contains(c))
    };
    let parts = address.split_once('@');
    if parts.is_some_and(|(name, host)| is_plain(name) && is_plain(host)) {
        return Some(address);
    }
    let hint = "for example ops@example.com".to_owned();
    entry.problem("it is not an e-mail address", Some(hint));
    None
}

#[cfg(test)]
mod tests {
    use crate::project::Project;

    #[test]
    fn urls_are_read_and_checked() {
        let read = |alerts: &str| {
            let text = format!("[project]\nname = \"shop\"\n[alerts]\n{alerts}\n");
            Project::parse(&text).map_err(|error| error.to_string())
        };
        let project = read("webhooks = [\"http://127.0.0.1:9/x\"]\nslack = [\"https://a/b\"]");
        let alerts = project.unwrap().alerts;
        assert_eq!((alerts.webhooks.len(), alerts.slack.len()), (1, 1));
        let refused = read("slack = [\"hooks.example.com\"]").unwrap_err();
        assert!(
            refused.contains("line 4") && refused.contains("URL of a webhook"),
            "{refused}"
        );
        assert!(read("mail = \"x\"").is_err());
        let email = read("email = [\"ops@example.com\"]").unwrap().alerts.email;
        assert_eq!(email, ["ops@example.com"]);
        for wrong in [
            "ops",
            "@example.com",
            "a b@example.com",
            "Ops <ops@example.com>",
        ] {
            let refused = read(&format!("email = [\"{wrong}\"]")).unwrap_err();
            assert!(refused.contains("line 4, alerts.email"), "{refused}");
        }
        let limits = |text| read(text).map(|project| project.alerts);
        let found = limits("latency_p99_ms = 20\nerrors = 0.001").unwrap();
        assert_eq!(
            (found.latency_p99_ms, found.errors),
            (Some(20.0), Some(0.001))
        );
        assert!(
            limits("errors = 2")
                .unwrap_err()
                .contains("a share of the answers")
        );
        assert!(
            limits("latency_p99_ms = 0")
                .unwrap_err()
                .contains("0 is not above 0")
        );
        let rate = |text| read(text).map(|project| project.alerts.false_alarms);
        assert_eq!(rate("false_alarms = 0.05").unwrap(), Some(0.05));
        assert!(
            rate("false_alarms = 0.6")
                .unwrap_err()
                .contains("at most 0.5")
        );
    }
}
