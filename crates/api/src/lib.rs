//! The face to programs: REST over HTTP.
//!
//! [`App`] is what the routes are given, [`router`] makes a service of it, [`serve`] puts that on a socket. The same
//! router is used by the server, by the command line within its own process, and by tests. The routes are a
//! [table](routes()) with one gate before each: who is asking, may they, is there room; what comes out is counted.
//!
//! - Events come in by the Segment tracking API; one answer per call says what became of every event.
//! - Answers never wait for training, the lake or the catalog.
//! - What goes wrong is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem with a stable
//!   [code](ErrorCode) and a page about it.
//! - Keys open one project each. Only their hashes are stored, and a revoked one works for a second at most.
//!
//! It is *not* a place for behaviour of the loop: handlers translate, and the stages do the work. The wire types that
//! are not another stage's own vocabulary live here and nowhere else.

mod admin;
mod admission;
mod alerts;
mod answers;
mod app;
mod at_once;
mod backup;
mod body;
mod data;
mod datasets;
mod events;
mod features;
mod gate;
mod health;
mod items;
mod keys;
mod models;
mod page;
mod people;
mod problem;
mod proofs;
mod recommend;
mod rollouts;
mod routes;
mod server;
mod sql;

pub use answers::PREDICT_BATCH_MAX;
pub use app::{ApiOptions, App, RandomBytes};
pub use gate::Access;
pub use keys::KeyRing;
pub use problem::{ErrorCode, PROBLEM_JSON, Problem};
pub use routes::{Route, router, routes};
pub use server::{Served, ServerOptions, serve};
