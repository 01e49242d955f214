//! A stand-in for FOSSology's scheduler and its agents, for tests and the demonstration.
//!
//! It behaves as the real one was seen to: the TCP protocol; `stop` lets running agents finish and still dispatches the jobs
//! that it has checked out while one of them runs; a job that is paused while it runs keeps `stop` from ever ending; the
//! connections are closed when the process ends and not before; SIGKILL leaves the agents behind as orphans, and only a start with
//! `--reset` runs their jobs again. `ununpack` unpacks a tar in gold into files; it leaves an upload alone that `ununpack_ars` calls
//! unpacked, and adds rows to the tree only where there are none.
#![allow(clippy::disallowed_methods, reason = "a stand-in for another program has doors of its own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a stand-in fails loudly")]

mod agent;
mod queue;
mod repository;
mod scheduler;
mod schema;
mod unpack;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A stand-in for FOSSology's scheduler.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Creates the tables.
    Schema {
        /// Connection string.
        #[arg(long)]
        database: String,
    },
    /// Queues jobs as the web pages do.
    Queue {
        /// Connection string.
        #[arg(long)]
        database: String,
        /// The agent: `ununpack`; `nomos`, which reads an upload's files; `sleeper`; or `forker`, which leaves a child behind.
        #[arg(long, default_value = "ununpack")]
        agent: String,
        /// How many; all at once.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Go on for ever, a job each so many milliseconds.
        #[arg(long)]
        every_ms: Option<u64>,
    },
    /// Runs the scheduler in the foreground.
    Run(Settings),
}

/// How the scheduler runs and misbehaves.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// TCP port on 127.0.0.1.
    #[arg(long, default_value_t = 24693)]
    port: u16,
    /// Connection string.
    #[arg(long)]
    database: String,
    /// The configuration directory, which agents have in their command line.
    #[arg(long, default_value = "/usr/local/etc/fossology")]
    sysconf: PathBuf,
    /// The repository; files go to `<repository>/<host>/{gold,files}`.
    #[arg(long)]
    repository: PathBuf,
    /// The hosts, with commas between; each has an equal range of the files' names.
    #[arg(long, default_value = "localhost")]
    hosts: String,
    /// How long an agent works.
    #[arg(long, default_value_t = 300)]
    agent_ms: u64,
    /// How many files an unpacking agent writes.
    #[arg(long, default_value_t = 5)]
    files: u32,
    /// Bytes of the largest of them.
    #[arg(long, default_value_t = 4000)]
    file_bytes: u32,
    /// How many agents run at once.
    #[arg(long, default_value_t = 2)]
    slots: usize,
    /// How often the table is polled (the real one: 120 s).
    #[arg(long, default_value_t = 100)]
    poll_ms: u64,
    /// Puts back what a crash has left begun, and runs it again.
    #[arg(long)]
    reset: bool,
    /// Queues a job by itself each so many milliseconds.
    #[arg(long)]
    busy_ms: Option<u64>,
    /// Kills itself after so many milliseconds.
    #[arg(long)]
    crash_after_ms: Option<u64>,
    /// Kills itself so many milliseconds after `stop`.
    #[arg(long)]
    crash_after_stop_ms: Option<u64>,
    /// Opens its port so late.
    #[arg(long, default_value_t = 0)]
    start_delay_ms: u64,
    /// Answers `stop` and goes on.
    #[arg(long)]
    ignore_stop: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // The scheduler starts agents as the real one does; what else they need is in their environment.
    if std::env::args().any(|argument| argument == "--scheduler_start") {
        return agent::work().await;
    }
    match Arguments::parse().mode {
        Mode::Schema { database } => schema::create(&database).await,
        Mode::Queue { database, agent, count, every_ms } => {
            queue::queue(&database, &agent, count, every_ms).await;
        }
        Mode::Run(settings) => scheduler::run(settings).await,
    }
}

/// A session with an empty application_name unless the connection string names one, as the real programs have.
async fn connect(database: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(database, tokio_postgres::NoTls).await.expect("the database can be reached");
    tokio::spawn(connection);
    client
}
