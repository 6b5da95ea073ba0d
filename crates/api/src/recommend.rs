//! Recommendations out: for a person or a session, next to an item, and the order of given items.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tidemill_core::ModelName;
use tidemill_cycle::ProjectLoop;
use tidemill_serve::recommend::{
    BatchPage, BatchRequest, RankRequest, RecommendRequest, Recommendation, SimilarRequest,
};
use tidemill_serve::{Answering, ServeError};

use crate::answers::count;
use crate::app::App;
use crate::body::JsonBody;
use crate::gate::Caller;
use crate::page::{InPath, InQuery};
use crate::problem::Problem;

/// Recommends items.
pub(crate) async fn recommend(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(request): JsonBody<RecommendRequest>,
) -> Result<Json<Recommendation>, Problem> {
    let model = recommender(&caller, &model)?;
    let answer = |project: &ProjectLoop| project.answerer.recommend(&model, &request);
    answered(&app, &caller, &model, answer)
}

/// Recommends items to everybody, a page of persons at a time.
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(request): JsonBody<BatchRequest>,
) -> Result<Json<BatchPage>, Problem> {
    let model = recommender(&caller, &model)?;
    let counting = app.clone();
    let work = move || {
        if request.after.is_none() {
            caller.project.commit()?; // whoever was heard of just now is among them
        }
        let (page, answerings) = caller.project.answerer.recommend_page(&model, &request)?;
        for answering in answerings {
            count(&counting, &caller.project, &model, answering);
        }
        Ok(page)
    };
    app.admission.heavy(work).await.map(Json)
}

/// Orders given items.
pub(crate) async fn rank(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(model): InPath<String>,
    JsonBody(request): JsonBody<RankRequest>,
) -> Result<Json<Recommendation>, Problem> {
    let model = recommender(&caller, &model)?;
    let answer = |project: &ProjectLoop| project.answerer.rank(&model, &request);
    answered(&app, &caller, &model, answer)
}

/// Items that go with one.
pub(crate) async fn similar(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath((model, item)): InPath<(String, String)>,
    InQuery(request): InQuery<SimilarRequest>,
) -> Result<Json<Recommendation>, Problem> {
    let model = recommender(&caller, &model)?;
    let answer = |project: &ProjectLoop| project.answerer.similar(&model, &item, &request);
    answered(&app, &caller, &model, answer)
}

fn recommender(caller: &Caller, name: &str) -> Result<ModelName, Problem> {
    let model = caller.model(name)?;
    if caller.project.is_recommender(&model) {
        return Ok(model);
    }
    let problem = Problem::from(ServeError::UnknownModel(name.to_owned()));
    Err(problem.hint(Some(format!(
        "{model} predicts: ask POST /v1/predict/{model}"
    ))))
}

fn answered(
    app: &App,
    caller: &Caller,
    model: &ModelName,
    answer: impl FnOnce(&ProjectLoop) -> Result<(Recommendation, Answering), ServeError>,
) -> Result<Json<Recommendation>, Problem> {
    let (recommendation, answering) = answer(&caller.project)?;
    count(app, &caller.project, model, answering);
    Ok(Json(recommendation))
}
