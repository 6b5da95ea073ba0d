//! Stage 5 of the loop: versions in memory, answers, and the decision log.
//!
//! A [`Package`] is a trained version as it is stored; [`Registry`] holds one champion per model and swaps it
//! without stopping anybody; [`Answerer`] reads features, asks the champion (or gives the plain fallback) and
//! logs the [`Decision`](tidemill_core::Decision). Nothing here trains, waits for the network, the lake or the
//! catalog, and a version is only activated after it has reproduced its golden rows.

pub mod answer;
pub mod decision_log;
pub mod package;
pub mod recommend;
pub mod registry;
pub mod rollout;

pub use answer::{Answerer, Answering, PredictRequest, Prediction, ServeError};
pub use decision_log::DecisionLog;
pub use package::{Baseline, GoldenRow, Package, PackageError};
pub use registry::{Champion, Failure, Registry};
pub use rollout::Challenger;
