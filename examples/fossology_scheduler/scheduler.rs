//! The scheduler: its memory, its loop, its port.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;

use crate::agent::VARIABLES;
use crate::{Settings, queue};

/// What is waiting: not begun, not ended, and nothing that it depends on is unfinished.
const WAITING: &str = "
    SELECT jq_pk, jq_type, jq_args, jq_job_fk FROM jobqueue
    WHERE jq_starttime IS NULL AND jq_endtime IS NULL AND jq_end_bits = 0
      AND NOT EXISTS (SELECT FROM jobdepends JOIN jobqueue AS before ON before.jq_pk = jdep_jq_depends_fk
                      WHERE jdep_jq_fk = jobqueue.jq_pk AND before.jq_end_bits <> 1)
    ORDER BY jq_pk LIMIT 20";
const RESET: &str = "
    UPDATE jobqueue SET jq_starttime = NULL, jq_endtext = NULL, jq_schedinfo = NULL WHERE jq_endtime IS NULL";
const FAIL_DEPENDENTS: &str = "
    WITH RECURSIVE waiter(pk) AS (
        SELECT jdep_jq_fk FROM jobdepends WHERE jdep_jq_depends_fk = $1
        UNION SELECT jdep_jq_fk FROM jobdepends JOIN waiter ON jdep_jq_depends_fk = pk)
    UPDATE jobqueue SET jq_endtime = now(), jq_endtext = 'dependency failed', jq_end_bits = 2
    WHERE jq_pk IN (SELECT pk FROM waiter) AND jq_endtime IS NULL";

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    CheckedOut,
    Started,
    Paused,
}

struct Job {
    agent: String,
    args: String,
    parent: i32,
    state: State,
    pid: Option<i32>,
}

/// 0: open; `stop`: agents finish; `die`: they were killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    Gracefully,
    Now,
}

struct Scheduler {
    settings: Settings,
    client: Client,
    jobs: BTreeMap<i32, Job>,
    closing: Closing,
    ended: mpsc::UnboundedSender<(i32, bool)>,
}

struct Request {
    command: String,
    answer: oneshot::Sender<String>,
}

/// Runs until `stop` or `die` has come to its end.
pub async fn run(settings: Settings) {
    let client = crate::connect(&settings.database).await;
    if settings.reset {
        client.execute(RESET, &[]).await.expect("the queue can be reset");
    }
    tokio::time::sleep(Duration::from_millis(settings.start_delay_ms)).await;
    let listener =
        TcpListener::bind(("127.0.0.1", settings.port)).await.expect("another scheduler has the port");
    if let Some(after) = settings.crash_after_ms {
        crash_in(after);
    }
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (asking, mut requests) = mpsc::unbounded_channel::<Request>();
    tokio::spawn(listen(listener, asking));
    let mut poll = tokio::time::interval(Duration::from_millis(settings.poll_ms));
    let mut busy = tokio::time::interval(Duration::from_millis(settings.busy_ms.unwrap_or(3_600_000)));
    busy.tick().await;
    let mut scheduler = Scheduler { settings, client, jobs: BTreeMap::new(), closing: Closing::No, ended };
    loop {
        tokio::select! {
            _ = poll.tick() => scheduler.poll().await,
            _ = busy.tick(), if scheduler.settings.busy_ms.is_some() && scheduler.closing == Closing::No => {
                queue::one(&scheduler.client, "ununpack").await;
            }
            Some((jq, success)) = ends.recv() => scheduler.finish(jq, success).await,
            Some(request) = requests.recv() => {
                let answer = scheduler.obey(&request.command).await;
                let _ = request.answer.send(answer);
            }
        }
        if scheduler.is_over() {
            // The answers on their way get out; the process's end closes every connection.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        }
        scheduler.dispatch().await;
    }
}

fn crash_in(milliseconds: u64) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        let _ = kill(Pid::this(), Signal::SIGKILL);
    });
}

impl Scheduler {
    fn running(&self) -> usize {
        self.jobs.values().filter(|job| job.pid.is_some()).count()
    }

    /// A paused job has an agent, so that it keeps the scheduler for ever; a checked-out one has none.
    fn is_over(&self) -> bool {
        let told = self.closing != Closing::No && !self.settings.ignore_stop;
        told && (self.closing == Closing::Now || self.running() == 0)
    }

    async fn poll(&mut self) {
        if self.closing != Closing::No {
            return;
        }
        for row in self.client.query(WAITING, &[]).await.expect("the queue can be read") {
            let args: Option<String> = row.get(2);
            self.jobs.entry(row.get(0)).or_insert(Job {
                agent: row.get(1),
                args: args.unwrap_or_default(),
                parent: row.get(3),
                state: State::CheckedOut,
                pid: None,
            });
        }
    }

    /// No look at `closing` here: that is the real scheduler's way.
    async fn dispatch(&mut self) {
        while self.running() < self.settings.slots {
            let next = self.jobs.iter().find(|(_, job)| job.state == State::CheckedOut);
            let Some(jq) = next.map(|(jq, _)| *jq) else { return };
            let info = format!("localhost.{}", std::process::id());
            let sql = "UPDATE jobqueue SET jq_starttime = now(), jq_endtext = 'Started', jq_schedinfo = $2
                       WHERE jq_pk = $1";
            self.client.execute(sql, &[&jq, &info]).await.expect("a job can be started");
            self.start(jq);
        }
    }

    fn start(&mut self, jq: i32) {
        let settings = &self.settings;
        let Some(job) = self.jobs.get_mut(&jq) else { return };
        let name = settings.sysconf.join("mods-enabled").join(&job.agent).join("agent").join(&job.agent);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg0(name).arg(format!("--jobId={}", job.parent));
        command.arg(format!("--config={}", settings.sysconf.display()));
        command.args(["--userID=1", "--groupID=1", "--scheduler_start"]);
        let values = [
            settings.database.clone(),
            settings.repository.display().to_string(),
            job.agent.clone(),
            job.args.clone(),
            settings.agent_ms.to_string(),
            settings.files.to_string(),
            settings.file_bytes.to_string(),
            settings.hosts.clone(),
        ];
        command.envs(VARIABLES.iter().zip(values)).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("an agent can be started");
        job.state = State::Started;
        job.pid = i32::try_from(child.id()).ok();
        let ended = self.ended.clone();
        std::thread::spawn(move || {
            let success = child.wait().is_ok_and(|status| status.success());
            let _ = ended.send((jq, success));
        });
    }

    async fn finish(&mut self, jq: i32, success: bool) {
        if self.jobs.remove(&jq).is_none() {
            return;
        }
        let (text, bits) = if success { ("Completed", 1_i16) } else { ("Failed", 2) };
        let sql =
            "UPDATE jobqueue SET jq_endtime = now(), jq_endtext = $2, jq_end_bits = $3 WHERE jq_pk = $1";
        self.client.execute(sql, &[&jq, &text, &bits]).await.expect("a job can be ended");
        if !success {
            self.client.execute(FAIL_DEPENDENTS, &[&jq]).await.expect("its dependents can be failed");
        }
    }

    async fn obey(&mut self, command: &str) -> String {
        let mut words = command.split_ascii_whitespace();
        let (verb, number) =
            (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
        match (verb, number) {
            ("status", None) => self.status(),
            ("stop", _) => {
                self.closing = Closing::Gracefully;
                if let Some(after) = self.settings.crash_after_stop_ms {
                    crash_in(after);
                }
                "CLOSE\n".to_owned()
            }
            ("die", _) => {
                self.die().await;
                "CLOSE\n".to_owned()
            }
            ("pause", Some(jq)) => self.pause(jq, Signal::SIGSTOP, State::Paused, "Paused").await,
            ("restart", Some(jq)) => self.pause(jq, Signal::SIGCONT, State::Started, "Started").await,
            ("database", _) => {
                self.poll().await;
                String::new()
            }
            _ => format!("Invalid command: \"{command}\"\n"),
        }
    }

    fn status(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "scheduler:{} revision:standin daemon:0 jobs:{} log:/dev/null port:{} verbose:0\n",
            std::process::id(),
            self.jobs.len(),
            self.settings.port
        );
        for (jq, job) in &self.jobs {
            let state = match job.state {
                State::CheckedOut => "JOB_CHECKEDOUT",
                State::Started => "JOB_STARTED",
                State::Paused => "JOB_PAUSED",
            };
            let running = u8::from(job.pid.is_some());
            let _ = writeln!(
                text,
                "job:{jq} status:{state} type:{}, priority:0 running:{running} finished:0 failed:0",
                job.agent
            );
        }
        text.push_str("end\n\0");
        text
    }

    /// The agent alone is stopped, not its group.
    async fn pause(&mut self, jq: i32, signal: Signal, state: State, text: &str) -> String {
        if let Some(job) = self.jobs.get_mut(&jq) {
            if let Some(pid) = job.pid {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            job.state = state;
        }
        let sql = "UPDATE jobqueue SET jq_endtext = $2, jq_starttime = coalesce(jq_starttime, '9999-12-31')
                   WHERE jq_pk = $1 AND jq_endtime IS NULL";
        self.client.execute(sql, &[&jq, &text]).await.expect("a job can be paused");
        String::new()
    }

    async fn die(&mut self) {
        self.closing = Closing::Now;
        let started: Vec<(i32, i32)> =
            self.jobs.iter().filter_map(|(jq, job)| Some((*jq, job.pid?))).collect();
        for (jq, pid) in started {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            self.finish(jq, false).await;
        }
    }
}

async fn listen(listener: TcpListener, asking: mpsc::UnboundedSender<Request>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, asking.clone()));
    }
}

/// Each read is a command.
async fn converse(mut stream: TcpStream, asking: mpsc::UnboundedSender<Request>) {
    let mut buffer = [0_u8; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let command = String::from_utf8_lossy(&buffer[..count]).trim().to_owned();
        let (answer, answered) = oneshot::channel();
        if stream.write_all(b"received\n").await.is_err() || asking.send(Request { command, answer }).is_err()
        {
            return;
        }
        let Ok(text) = answered.await else { return };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}
