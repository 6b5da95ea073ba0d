//! The frame of every page.

use axum::response::{IntoResponse, Response};
use tidemill_store::users::Role;

use crate::assets;
use crate::html::{Html, html};
use crate::problem::Problem;
use crate::visit::{Viewer, Visit};

/// The parts of the console, in the order of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Models,
    Decisions,
    People,
    Events,
    Alerts,
    Requests,
    Value,
    Features,
    Ask,
    Settings,
}

impl Section {
    const ALL: [Self; 11] = [
        Self::Overview,
        Self::Models,
        Self::Decisions,
        Self::People,
        Self::Events,
        Self::Alerts,
        Self::Requests,
        Self::Value,
        Self::Features,
        Self::Ask,
        Self::Settings,
    ];

    /// Name, page, and the path of its picture on a grid of 16.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Overview => (
                "Overview",
                "",
                "M2 8a6 6 0 1 0 12 0A6 6 0 0 0 2 8m6-3v3l2 2",
            ),
            Self::Models => (
                "Models",
                "/models",
                "M8 2l6 3-6 3-6-3zM2 8l6 3 6-3M2 11l6 3 6-3",
            ),
            Self::Decisions => ("Decisions", "/decisions", "M3 4h10M3 8h10M3 12h6"),
            Self::People => (
                "People and items",
                "/people",
                "M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6M2.500 14c.5-3 3-4 5.500-4s5 1 5.500 4",
            ),
            Self::Events => ("Events", "/events", "M2 9h3l2-6 3 10 2-4h2"),
            Self::Alerts => ("Alerts", "/alerts", "M8 2l6 11H2zM8 6v3m0 2v.5"),
            Self::Requests => ("Requests", "/requests", "M2 13a6 6 0 1 1 12 0M8 13l3-5"),
            Self::Value => ("Value", "/value", "M3 13V9m5 4V3m5 10V6"),
            Self::Features => (
                "Features",
                "/features",
                "M2 4h12M2 8h12M2 12h12M6 2v4m5 0v4m-6 0v4",
            ),
            Self::Ask => (
                "Ask",
                "/ask",
                "M2 3h12v8H8l-3 3v-3H2zM5 6l2 1.500L5 9m3 0h3",
            ),
            Self::Settings => (
                "Settings",
                "/settings",
                "M8 10.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5M8 1.500v2m0 9v2M1.500 8h2m9 0h2M3.500 3.500l1.400 1.400m6.200 6.200l1.400 1.400m0-9l-1.400 1.400M4.900 11.100l-1.400 1.400",
            ),
        }
    }
}

/// One page.
pub(crate) struct Page<'a> {
    pub(crate) section: Section,
    pub(crate) title: &'a str,
    /// The pages above it: name and path.
    pub(crate) trail: &'a [(&'a str, String)],
    /// What can be done, beside the title.
    pub(crate) actions: Html,
    pub(crate) body: Html,
}

impl<'a> Page<'a> {
    pub(crate) fn new(section: Section, title: &'a str, body: Html) -> Self {
        Self {
            section,
            title,
            trail: &[],
            actions: Html::default(),
            body,
        }
    }
}

impl Visit {
    /// A page of the project in its frame.
    pub(crate) fn page(&self, page: &Page<'_>) -> Result<Response, Problem> {
        let alerts = self.project.alerts.open()?.len();
        let links = Section::ALL.into_iter().map(|section| {
            let (name, path, picture) = section.shown();
            let current = if section == page.section {
                html!(" aria-current=\"page\"")
            } else {
                Html::default()
            };
            let count = if section == Section::Alerts && alerts > 0 {
                html!("<span class=\"count\">{}<span class=\"unseen\"> open</span></span>", alerts)
            } else {
                Html::default()
            };
            html!(
                "<li><a href=\"{path}\"{current}><svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><path d=\"{picture}\"/></svg>{name}{count}</a></li>",
                path = self.path(path),
                current = current,
                picture = picture,
                name = name,
                count = count,
            )
        });
        let trail = page.trail.iter().map(|(name, path)| {
            html!(
                "<a href=\"{}\">{}</a><span aria-hidden=\"true\">/</span>",
                path,
                name
            )
        });
        let trail: Html = trail.collect();
        let trail = if trail.is_empty() {
            trail
        } else {
            html!(
                "<nav class=\"trail\" aria-label=\"Above this page\">{}</nav>",
                trail
            )
        };
        let body = html!(
            "<div class=\"frame\"><header class=\"side\"><a class=\"mark\" href=\"{home}\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M3 14c3 0 3-2 6-2s3 2 6 2 3-2 6-2M3 19c3 0 3-2 6-2s3 2 6 2 3-2 6-2\"/><circle cx=\"12\" cy=\"6\" r=\"3\"/></svg>Tidemill</a>{projects}<nav aria-label=\"Console\"><ul>{links}</ul></nav>{foot}</header><main id=\"main\" tabindex=\"-1\"><div class=\"head\"><div>{trail}<h1>{title}</h1></div><div class=\"actions\">{actions}</div></div>{body}</main></div>",
            home = self.path(""),
            projects = self.projects(),
            links = links.collect::<Html>(),
            foot = foot(&self.viewer),
            trail = trail,
            title = page.title,
            actions = page.actions,
            body = page.body,
        );
        let name = self.project.project.name.as_str();
        Ok(document(&format!("{} · {name}", page.title), name, &body).into_response())
    }

    /// The projects of the server; just the name where there is one.
    fn projects(&self) -> Html {
        let here = &self.project.project.name;
        let seen = self.console.names_seen(&self.viewer.user);
        if seen.len() == 1 {
            return html!("<p class=\"project\">{}</p>", here.as_str());
        }
        let others = seen.into_iter().filter(|name| *name != here);
        let others = others.map(|name| {
            html!(
                "<li><a href=\"/console/p/{name}\">{name}</a></li>",
                name = name.as_str()
            )
        });
        html!(
            "<details class=\"project\"><summary>{}</summary><ul>{}</ul></details>",
            here.as_str(),
            others.collect::<Html>()
        )
    }

    /// A form of one button that asks before it is sent, for whoever has the role; nothing for others.
    pub(crate) fn action(&self, role: Role, action: &Action<'_>) -> Html {
        if self.viewer.may(role) {
            ask_first(&self.viewer, &self.path(action.path), action)
        } else {
            Html::default()
        }
    }
}

/// What a person can do on a page.
pub(crate) struct Action<'a> {
    /// Where it is sent, within the project or the console.
    pub(crate) path: &'a str,
    pub(crate) button: &'a str,
    /// What happens, in a sentence.
    pub(crate) means: &'a str,
    /// What the person has to say, and whether they must.
    pub(crate) fields: Html,
}

/// A field for the reason, which is kept in the audit log.
pub(crate) fn reason_field(must: bool) -> Html {
    let required = if must {
        html!(" required")
    } else {
        Html::default()
    };
    html!(
        "<label>Why <span class=\"quiet\">(kept in the audit log)</span><input name=\"reason\" maxlength=\"500\"{}></label>",
        required
    )
}

/// The field that shows that a form belongs to the session.
pub(crate) fn token_field(viewer: &Viewer) -> Html {
    html!(
        "<input type=\"hidden\" name=\"token\" value=\"{}\">",
        viewer.token
    )
}

/// A button that opens a question; also without scripts, as it is a `details`.
pub(crate) fn ask_first(viewer: &Viewer, path: &str, action: &Action<'_>) -> Html {
    html!(
        "<details class=\"ask\"><summary class=\"button\">{button}</summary><form method=\"post\" action=\"{path}\"><p>{means}</p>{token}{fields}<button class=\"button sure\">{button}</button></form></details>",
        button = action.button,
        path = path,
        means = action.means,
        token = token_field(viewer),
        fields = action.fields,
    )
}

fn foot(viewer: &Viewer) -> Html {
    html!(
        "<div class=\"foot\"><button type=\"button\" class=\"search\" data-palette>Go to … <kbd>Ctrl K</kbd></button><button type=\"button\" class=\"theme\" data-theme-switch>Light or dark</button><p class=\"who\">{name} <span class=\"quiet\">{role}</span></p><form method=\"post\" action=\"/console/sign-out\">{token}<button class=\"link\">Sign out</button></form></div>",
        name = viewer.user.name,
        role = viewer.user.role.as_str(),
        token = token_field(viewer),
    )
}

/// A page without a frame: before somebody has signed in, and for problems.
pub(crate) fn bare(title: &str, body: &Html) -> Response {
    document(title, "", body).into_response()
}

fn document(title: &str, project: &str, body: &Html) -> axum::response::Html<String> {
    let text = html!(
        "<!doctype html><html lang=\"en\" data-project=\"{project}\"><head><meta charset=\"utf-8\"><title>{title} · Tidemill</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"{icon}\"><link rel=\"stylesheet\" href=\"{style}\"><script src=\"{script}\"></script></head><body><a class=\"skip\" href=\"#main\">Skip to the content</a>{body}</body></html>",
        project = project,
        title = title,
        icon = assets::icon(),
        style = assets::style(),
        script = assets::script(),
        body = body,
    );
    axum::response::Html(text.into_string())
}
