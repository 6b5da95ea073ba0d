//! Serving until told to stop: background loops, the listener, an orderly end.

use std::path::Path;

use anyhow::{Context, Result};
use tidemill_api::ServerOptions;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Config;
use crate::node::Node;
use crate::server_file;

/// Takes the address of the settings.
pub async fn listen(config: &Config) -> Result<TcpListener> {
    let address: std::net::SocketAddr = config.get("listen")?;
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}: is another server running there? --listen takes another address, and port 0 a free one")
    })
}

/// Serves a node until SIGINT or SIGTERM, then ends in order: no new requests, those under way finish, and what
/// is in memory is committed.
pub async fn run(node: Node, listener: TcpListener, data: &Path) -> Result<()> {
    let _file = server_file::write(data, &listener.local_addr()?.to_string())?;
    let (stop, stopping) = watch::channel(false);
    let mut tasks = Vec::new();
    for (name, project_loop) in &node.loops {
        let spawned = tidemill_cycle::spawn(project_loop.clone(), stopping.clone());
        node.app.watch_tasks(name, &spawned);
        tasks.extend(spawned);
    }
    let router = tidemill_api::router(node.app.clone());
    tidemill_api::serve(listener, router, ServerOptions::default(), asked_to_stop()).await;
    stop.send_replace(true);
    for task in tasks {
        task.await.context("a background task ended badly")?;
    }
    for project_loop in node.loops.values() {
        project_loop.commit()?;
    }
    Ok(())
}

async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // without signals there is nothing to wait for but the end of the process
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
