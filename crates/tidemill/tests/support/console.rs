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
    let browser = ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .build()
        .new_agent();
    let made = server.json_of(&["users", "link", "admin"]);
    let link = made["link"].as_str().expect("a link");
    let (_, secret) = link.split_once("link=").expect("a link with a secret");
    let answer = browser
        .post(format!("{}/console/sign-in", server.url()))
        .header("sec-fetch-site", "same-origin")
        .send_form([("link", secret)])
        .expect("an answer");
    let cookie = answer.headers().get("set-cookie").expect("a session");
    let cookie = cookie.to_str().expect("a cookie of ASCII");
    let (cookie, _) = cookie.split_once(';').expect("a cookie with a path");
    let project = &server.project;
    browser
        .get(format!("{}/console/p/{project}{path}", server.url()))
        .header("cookie", cookie)
        .call()
        .and_then(|mut page| page.body_mut().read_to_string())
        .expect("the page")
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
