//! The console without a browser: signing in, and what a page shows to copy.

use super::Server;

/// The lines that the page about connecting an app shows: for what, and the lines.
pub(crate) fn snippets(server: &Server) -> Vec<(String, String)> {
    let page = page(server, "/events/connect");
    let mut found = Vec::new();
    for part in page.split("<h2>").skip(1) {
        let named = part.split_once("</h2>");
        let lines = part
            .split_once("<code>")
            .and_then(|(_, rest)| rest.split_once("</code>"));
        if let (Some((name, _)), Some((lines, _))) = (named, lines) {
            found.push((as_text(name), as_text(lines)));
        }
    }
    found
}

/// A page of the project, as an admin sees it.
pub(crate) fn page(server: &Server, path: &str) -> String {
    let admin = Visitor::sign_in(server, "admin");
    admin
        .get(&format!("/console/p/{}{path}", server.project))
        .text
}

/// Somebody who is signed in.
pub(crate) struct Visitor {
    browser: ureq::Agent,
    url: String,
    cookie: String,
}

/// What the console answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The status; redirections are not followed.
    pub(crate) status: u16,
    /// Where a redirection leads, or nothing.
    pub(crate) location: String,
    /// The page.
    pub(crate) text: String,
}

impl Visitor {
    /// Signs a user in with a new link.
    pub(crate) fn sign_in(server: &Server, user: &str) -> Self {
        let made = server.json_of(&["users", "link", user]);
        let link = made["link"].as_str().expect("a link");
        let (_, secret) = link.split_once("link=").expect("a link with a secret");
        let browser = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            // a form that is refused unread may close its connection
            .max_idle_connections(0)
            .build()
            .new_agent();
        let answer = browser
            .post(format!("{}/console/sign-in", server.url()))
            .header("sec-fetch-site", "same-origin")
            .send_form([("link", secret)])
            .expect("an answer");
        let cookie = answer.headers().get("set-cookie").expect("a session");
        let cookie = cookie.to_str().expect("a cookie of ASCII");
        let (cookie, _) = cookie.split_once(';').expect("a cookie with a path");
        Self {
            browser,
            url: server.url(),
            cookie: cookie.to_owned(),
        }
    }

    /// A page, by its path on the server.
    pub(crate) fn get(&self, path: &str) -> Answered {
        let asked = self.browser.get(format!("{}{path}", self.url));
        answered(asked.header("cookie", &self.cookie).call())
    }

    /// Sends a form from a page of the console.
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answered {
        let asked = self.browser.post(format!("{}{path}", self.url));
        let asked = asked
            .header("cookie", &self.cookie)
            .header("sec-fetch-site", "same-origin");
        answered(asked.send_form(fields.iter().copied()))
    }

    /// What the forms of a page carry.
    pub(crate) fn token(&self, path: &str) -> String {
        let page = self.get(path).text;
        let (_, rest) = page
            .split_once("name=\"token\" value=\"")
            .expect("a form with a token");
        rest.split('"').next().expect("a token").to_owned()
    }
}

fn answered(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answered {
    let mut answer = answer.expect("an answer");
    let location = answer.headers().get("location");
    let location = location.and_then(|location| location.to_str().ok());
    Answered {
        status: answer.status().as_u16(),
        location: location.unwrap_or_default().to_owned(),
        text: answer.body_mut().read_to_string().expect("a page"),
    }
}

/// What a browser shows for a piece of HTML without tags.
fn as_text(html: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    let text = html.to_owned();
    entities.iter().fold(text, |text, (entity, character)| {
        text.replace(entity, character)
    })
}
