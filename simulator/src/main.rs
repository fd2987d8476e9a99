//! The simulator as a program of its own: arguments in, a listening server out.
//!
//! It stops at ctrl-c or a termination signal; with `--state` its tasks outlive it.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use simulator::{Options, Pace};
use tokio::{net::TcpListener, signal};

/// Simulated AI vendors on their real wire protocols.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port to listen on.
    #[arg(long, env = "SIMULATOR_PORT", default_value_t = 4010)]
    port: u16,
    /// The folder to keep tasks in, so that a restart still knows them.
    #[arg(long, env = "SIMULATOR_STATE")]
    state: Option<PathBuf>,
    /// How long a video takes, in seconds.
    #[arg(long, env = "SIMULATOR_SECONDS", default_value_t = 5.0)]
    seconds: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let Arguments { port, state, seconds } = Arguments::parse();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.context("listen")?;
    tracing::info!(address = %listener.local_addr()?, "simulated vendors are listening");
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    let shutdown = async move {
        tokio::select! { _ = signal::ctrl_c() => {}, _ = terminate.recv() => {} }
    };
    let options = Options { state_dir: state, pace: Pace::AfterSeconds(seconds) };
    simulator::serve(listener, options, shutdown).await
}
