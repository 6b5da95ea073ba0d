//! The table of routes, and the router that is built from it.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter};
use tidemill_core::project::did_you_mean;
use tidemill_store::catalog::Scope;

use crate::app::App;
use crate::body::Received;
use crate::events::TRACKING;
use crate::gate::{self, Access, BodySize, Caller, Gate};
use crate::problem::{ErrorCode, Problem};
use crate::{
    admin, alerts, answers, backup, data, datasets, events, features, health, items, models,
    people, proofs, recommend, rollouts, sql,
};

/// Under which route requests are counted that met none.
const NO_ROUTE: &str = "(none)";

/// The paths that a misspelt one is compared with.
static PATHS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    routes()
        .iter()
        .map(|route| route.path)
        .filter(|path| path.len() > 1)
        .collect()
});

/// One row of the table.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    body: BodySize,
    handler: MethodRouter<Arc<App>>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter =
            MethodFilter::try_from(method.clone()).expect("the table holds the usual methods only");
        Self {
            method,
            path,
            access,
            body: BodySize::Usual,
            handler: axum::routing::on(filter, handler),
        }
    }

    fn body(mut self, body: BodySize) -> Self {
        self.body = body;
        self
    }

    /// The scope that a key needs, in words.
    pub fn needs(&self) -> &'static str {
        match self.access {
            Access::Open => "nothing",
            Access::Metrics | Access::Needs(Scope::Read) => "read",
            Access::Events | Access::Needs(Scope::Write) => "write",
            Access::Needs(Scope::Admin) => "admin",
        }
    }
}

/// Every route. A test proves for each row that its gate holds.
pub fn routes() -> Vec<Route> {
    const READ: Access = Access::Needs(Scope::Read);
    const ADMIN: Access = Access::Needs(Scope::Admin);
    let mut routes = tracking_routes();
    routes.extend(dataset_routes());
    routes.extend([
        // a write key can be seen in every browser, so changing items takes more than one
        Route::new(Method::PUT, "/v1/items", ADMIN, items::put).body(BodySize::Events),
        Route::new(Method::DELETE, "/v1/items/{id}", ADMIN, items::delete),
        Route::new(Method::GET, "/v1/items/{id}", READ, items::get),
        Route::new(Method::POST, "/v1/predict/{model}", READ, answers::predict),
        Route::new(
            Method::POST,
            "/v1/predict/{model}/batch",
            READ,
            answers::predict_batch,
        )
        .body(BodySize::PredictBatch),
        Route::new(
            Method::POST,
            "/v1/recommend/{model}",
            READ,
            recommend::recommend,
        ),
        Route::new(
            Method::POST,
            "/v1/recommend/{model}/batch",
            READ,
            recommend::batch,
        ),
        Route::new(Method::POST, "/v1/rank/{model}", READ, recommend::rank),
        Route::new(
            Method::GET,
            "/v1/similar/{model}/{item}",
            READ,
            recommend::similar,
        ),
        Route::new(Method::GET, "/v1/decisions", READ, answers::decisions),
        Route::new(Method::GET, "/v1/decisions/{id}", READ, answers::decision),
        Route::new(Method::GET, "/v1/users/{id}", READ, people::get),
        Route::new(Method::DELETE, "/v1/users/{id}", ADMIN, people::erase),
        Route::new(Method::GET, "/v1/users/{id}/export", ADMIN, people::export),
        Route::new(Method::GET, "/v1/models", READ, models::list),
        Route::new(Method::GET, "/v1/models/{model}", READ, models::get),
        Route::new(
            Method::GET,
            "/v1/models/{model}/versions",
            READ,
            models::versions,
        ),
        Route::new(
            Method::GET,
            "/v1/models/{model}/versions/{version}",
            READ,
            models::version,
        ),
        Route::new(Method::GET, "/v1/models/{model}/value", READ, models::value),
        Route::new(
            Method::GET,
            "/v1/models/{model}/answers",
            READ,
            data::answers,
        ),
        Route::new(
            Method::GET,
            "/v1/models/{model}/staleness",
            READ,
            proofs::staleness,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/staleness",
            ADMIN,
            proofs::measure_staleness,
        ),
        Route::new(
            Method::GET,
            "/v1/models/{model}/scorecard",
            READ,
            proofs::scorecard,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/scorecard",
            ADMIN,
            proofs::record,
        ),
        Route::new(
            Method::GET,
            "/v1/models/{model}/rollout",
            READ,
            rollouts::get,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/drill",
            ADMIN,
            rollouts::drill,
        ),
        Route::new(Method::GET, "/v1/models/{model}/runs", READ, models::runs),
        Route::new(
            Method::GET,
            "/v1/models/{model}/runs/{id}",
            READ,
            models::run,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/train",
            ADMIN,
            models::train,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/promote",
            ADMIN,
            models::promote,
        ),
        Route::new(
            Method::POST,
            "/v1/models/{model}/rollback",
            ADMIN,
            models::rollback,
        ),
        Route::new(Method::GET, "/v1/features/report", READ, features::report),
        Route::new(Method::GET, "/v1/events/counts", READ, events::counts),
        Route::new(Method::GET, "/v1/events/seen", READ, events::seen),
        Route::new(
            Method::GET,
            "/v1/features/consistency",
            READ,
            features::consistency,
        ),
        Route::new(
            Method::POST,
            "/v1/features/consistency",
            ADMIN,
            features::check_consistency,
        ),
        Route::new(Method::GET, "/v1/features", READ, features::list),
        Route::new(Method::GET, "/v1/features/suggest", READ, features::suggest),
        Route::new(Method::GET, "/v1/alerts", READ, alerts::list),
        Route::new(
            Method::POST,
            "/v1/alerts/{id}/silence",
            ADMIN,
            alerts::silence,
        ),
        Route::new(Method::GET, "/v1/data", READ, data::report),
        Route::new(Method::GET, "/v1/sql", READ, sql::tables),
        Route::new(Method::POST, "/v1/sql", READ, sql::ask),
        Route::new(Method::GET, "/v1/quarantine", READ, events::quarantine),
        Route::new(Method::POST, "/v1/quarantine/replay", ADMIN, events::replay),
        Route::new(Method::GET, "/v1/keys", ADMIN, admin::keys),
        Route::new(Method::POST, "/v1/keys", ADMIN, admin::create),
        Route::new(Method::DELETE, "/v1/keys/{id}", ADMIN, admin::revoke),
        Route::new(Method::GET, "/v1/audit", ADMIN, admin::audit),
        Route::new(Method::POST, "/v1/backup", ADMIN, backup::begin),
        Route::new(Method::GET, "/health/live", Access::Open, health::live),
        Route::new(Method::GET, "/health/ready", Access::Open, health::ready),
        Route::new(Method::GET, "/metrics", Access::Metrics, health::metrics),
        Route::new(
            Method::GET,
            "/errors/{code}",
            Access::Open,
            health::error_page,
        ),
        Route::new(Method::GET, "/", Access::Open, health::index),
    ]);
    routes
}

fn dataset_routes() -> [Route; 5] {
    const READ: Access = Access::Needs(Scope::Read);
    const ADMIN: Access = Access::Needs(Scope::Admin);
    const ALL: &str = "/v1/models/{model}/datasets";
    const ONE: &str = "/v1/models/{model}/datasets/{version}";
    const DIFF: &str = "/v1/models/{model}/datasets/{version}/diff/{with}";
    const ROWS: &str = "/v1/models/{model}/datasets/{version}/rows";
    [
        Route::new(Method::GET, ALL, READ, datasets::list),
        Route::new(Method::POST, ALL, ADMIN, datasets::build),
        Route::new(Method::GET, ONE, READ, datasets::get),
        Route::new(Method::GET, DIFF, READ, datasets::diff),
        Route::new(Method::GET, ROWS, READ, datasets::rows),
    ]
}

fn tracking_routes() -> Vec<Route> {
    let receive = |path, call| {
        let handler = move |State(app): State<Arc<App>>, caller: Caller, body: Received| {
            events::receive(app, caller, call, body)
        };
        Route::new(Method::POST, path, Access::Events, handler).body(BodySize::Events)
    };
    let preflight = |path| Route::new(Method::OPTIONS, path, Access::Open, gate::preflight);
    TRACKING
        .iter()
        .flat_map(|&(path, call)| [receive(path, call), preflight(path)])
        .collect()
}

/// The router: for the server, for the command line within the same process, and for tests.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for Route {
        path,
        access,
        body,
        handler,
        ..
    } in routes()
    {
        let gate = Arc::new(Gate {
            app: app.clone(),
            path,
            access,
            body,
        });
        router = router.route(
            path,
            handler.route_layer(middleware::from_fn_with_state(gate, gate::pass)),
        );
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// Counts a request that no route takes: it is answered at once.
fn nowhere(app: &App, code: ErrorCode) {
    let status = code.status().as_u16();
    app.metrics.requested(NO_ROUTE, status, 0, app.clock.now());
}

async fn unknown_route(State(app): State<Arc<App>>, uri: Uri) -> Problem {
    nowhere(&app, ErrorCode::UnknownRoute);
    let shown: String = uri.path().chars().take(100).collect();
    let meant = did_you_mean(&shown, PATHS.iter().copied());
    Problem::new(
        ErrorCode::UnknownRoute,
        format!("there is nothing at {shown}"),
    )
    .hint(meant)
}

async fn wrong_method(State(app): State<Arc<App>>, method: Method, uri: Uri) -> Problem {
    nowhere(&app, ErrorCode::WrongMethod);
    let shown: String = uri.path().chars().take(100).collect();
    Problem::new(
        ErrorCode::WrongMethod,
        format!("{shown} does not take {method}"),
    )
}
