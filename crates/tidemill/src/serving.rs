//! Serving until told to stop: background loops, the listener, an orderly end.

use std::path::Path;

use anyhow::{Context, Result};
use tidemill_api::ServerOptions;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::load;
use crate::node::Node;
use crate::server_file;

/// Takes the address of the settings.
pub async fn listen(config: &Config) -> Result<TcpListener> {
    let address: std::net::SocketAddr = config.get("listen")?;
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}: is another server running there? --listen takes another address, and port 0 a free one")
    })
}

/// A server that may be spoken to: it is written down where it listens, and signals end it in order.
pub struct Announced {
    _file: server_file::Guard,
    signals: Signals,
}

/// Writes down where the server of a data folder listens, and takes over the signals that end it. To be called before
/// anybody is told that it listens: commands beside it look there, and whoever reads that line may send a signal.
pub fn announce(data: &Path, listener: &TcpListener) -> Result<Announced> {
    Ok(Announced {
        _file: server_file::write(data, &listener.local_addr()?.to_string())?,
        signals: Signals::take_over().context("take over the signals that end a server")?,
    })
}

/// Serves a node until SIGINT or SIGTERM, then ends in order: no new requests, those under way finish, and what
/// is in memory is committed.
pub async fn run(node: Node, listener: TcpListener, announced: Announced) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let mut tasks = Vec::new();
    for (name, project_loop) in &node.loops {
        let spawned = tidemill_cycle::spawn(project_loop.clone(), stopping.clone());
        node.app.watch_tasks(name, &spawned);
        tasks.extend(spawned);
    }
    tasks.push(load::spawn(
        node.app.clone(),
        node.folder().to_owned(),
        stopping.clone(),
    ));
    // pages that are followed live would keep their connections open
    let (stop_pages, pages_stopping) = watch::channel(false);
    let pages = tidemill_console::router(node.console(pages_stopping));
    let router = tidemill_api::router(node.app.clone()).merge(pages);
    let asked_to_stop = async move {
        announced.signals.asked_to_stop().await;
        stop_pages.send_replace(true);
    };
    tidemill_api::serve(listener, router, ServerOptions::default(), asked_to_stop).await;
    stop.send_replace(true);
    for task in tasks {
        task.await.context("a background task ended badly")?;
    }
    for project_loop in node.loops.values() {
        project_loop.commit()?;
    }
    Ok(())
}

/// The signals that end a server.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn take_over() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn asked_to_stop(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn take_over() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn asked_to_stop(self) {
        // without signals there is nothing to wait for but the end of the process
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
