//! What every backend of a port has to do, as suites that run on any of them.
//!
//! A suite is given a function that opens a backend in a world by name: a name that was not used before is an empty
//! world, and the same name again is the same world, after what had been opened in it was dropped. It panics
//! where the backend does not do what the port says.
//!
//! ```no_run
//! # async fn run() {
//! use tidemill_store::fjall_store::{FjallLog, FjallOptions};
//! use tidemill_store::{DataFolder, conformance};
//!
//! conformance::event_log::check(async |world| {
//!     let folder = DataFolder::open(std::env::temp_dir().join(world)).unwrap();
//!     FjallLog::open(&folder, &FjallOptions::default()).unwrap()
//! })
//! .await;
//! # }
//! ```

pub mod artifacts;
pub mod catalog;
pub mod event_log;
pub mod lake;
mod queries;
pub mod samples;
pub mod state;
pub mod users;
