//! The adapter `http`: a maintenance switch that is read with GET and set with PUT.
//!
//! The document of the pause has a word in `field` (`/status`: `READ_ONLY`); the switch stands on pause when GET shows that word. It
//! is put back only from there: a third word means that an operator has turned the switch since, and it is left alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adapter::{Adapter, Before, Proof};
use super::plan::{Attempt, ReleasePlan};
use super::{Error, Purpose};
use crate::config::{HttpHold, Secret};
use crate::fs;

/// A switch that says more than this is none.
const LONGEST_ANSWER: usize = 1 << 20;
/// How long after the release a pause that was still on its way is looked for.
const LATE_PAUSE: Duration = Duration::from_millis(500);

/// The switch: what the adapter and its release ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Switch {
    url: String,
    field: String,
    headers: BTreeMap<String, Secret>,
    timeout: Duration,
}

impl Switch {
    fn failed(&self, method: &'static str, reason: impl Into<String>) -> Error {
        Error::Http { method, url: self.url.clone(), reason: reason.into(), absent: false }
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        // Another part of the program may have installed it: then it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        for (name, secret) in &self.headers {
            let text = match secret {
                Secret::Plain(text) => text.clone(),
                Secret::Credential(credential) => read_credential(credential)?,
            };
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| self.failed("GET", format!("{name:?} cannot be the name of a header")))?;
            let mut value = HeaderValue::try_from(text).map_err(|_| {
                self.failed("GET", format!("the value of header {name} has forbidden characters"))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        reqwest::Client::builder()
            .timeout(self.timeout)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| self.failed("GET", cause_of(&error)))
    }

    /// The word that the switch shows.
    async fn read(&self) -> Result<Value, Error> {
        let answer = self.client()?.get(&self.url).send().await;
        let body = self.body_of("GET", answer).await?;
        let document: Value = serde_json::from_str(&body)
            .map_err(|error| self.failed("GET", format!("the answer is not JSON: {error}")))?;
        document
            .pointer(&self.field)
            .cloned()
            .ok_or_else(|| self.failed("GET", format!("the answer has no field {}", self.field)))
    }

    async fn set(&self, document: &Value) -> Result<(), Error> {
        let answer = self.client()?.put(&self.url).json(document).send().await;
        self.body_of("PUT", answer).await.map(drop)
    }

    async fn body_of(
        &self,
        method: &'static str,
        answer: Result<reqwest::Response, reqwest::Error>,
    ) -> Result<String, Error> {
        let mut answer = answer.map_err(|error| Error::Http {
            method,
            url: self.url.clone(),
            reason: cause_of(&error),
            absent: error.is_connect() && !error.is_timeout(),
        })?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.failed(method, cause_of(&error)))? {
            body.extend_from_slice(&piece);
            if body.len() > LONGEST_ANSWER {
                return Err(self.failed(method, format!("the answer has more than {LONGEST_ANSWER} bytes")));
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(body);
        }
        let said: String = self.without_secrets(body).trim().chars().take(200).collect();
        Err(self.failed(method, format!("{status}{}{said}", if said.is_empty() { "" } else { ": " })))
    }

    /// An answer may repeat the question, and what it says goes into messages.
    fn without_secrets(&self, text: String) -> String {
        let secrets = self.headers.values().filter_map(|secret| match secret {
            Secret::Credential(name) => read_credential(name).ok().filter(|value| !value.is_empty()),
            Secret::Plain(_) => None,
        });
        secrets.fold(text, |text, secret| text.replace(&secret, "***"))
    }

    /// The word of a document that pauses or releases.
    fn word_of(&self, document: &Value) -> Result<Value, Error> {
        document
            .pointer(&self.field)
            .cloned()
            .ok_or_else(|| self.failed("PUT", format!("the document to send has no field {}", self.field)))
    }
}

fn read_credential(name: &str) -> Result<String, Error> {
    let missing = || Error::Credential { name: name.to_owned() };
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(missing)?;
    let text = fs::read_to_string(&Path::new(&directory).join(name)).map_err(|_| missing())?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The innermost cause: what reqwest puts around it repeats the URL.
fn cause_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

pub(super) struct Http {
    switch: Switch,
    pause: Value,
    release: Value,
    paused: Value,
    purpose: Purpose,
}

impl Http {
    pub(super) fn new(settings: HttpHold, purpose: Purpose) -> Result<Self, Error> {
        let HttpHold { url, pause, release, field, headers, timeout } = settings;
        let switch = Switch { url, field, headers, timeout };
        let paused = switch.word_of(&pause)?;
        switch.word_of(&release)?;
        Ok(Self { switch, pause, release, paused, purpose })
    }

    async fn look_now(&mut self) -> Result<Before, Error> {
        let release = ReleasePlan::Http(Release {
            switch: self.switch.clone(),
            document: self.release.clone(),
            paused: self.paused.clone(),
        });
        let word = match self.switch.read().await {
            Err(Error::Http { absent: true, reason, .. }) if self.purpose == Purpose::Restore => {
                let why = format!("{} cannot be reached ({reason})", self.switch.url);
                return Ok(Before::Stopped { why, start: release });
            }
            word => word?,
        };
        if word == self.paused {
            let why = format!("{} already showed {word}", self.switch.url);
            return Ok(Before::Stopped { why, start: release });
        }
        if word != self.switch.word_of(&self.release)? {
            // Some other maintenance, stricter perhaps than the pause: it is neither to be weakened now nor ended later.
            let answer = format!("{word}, which neither pauses nor releases");
            return Err(Error::Answer { what: self.switch.url.clone(), answer });
        }
        Ok(Before::Running(release))
    }

    async fn prove_now(&self) -> Result<Proof, Error> {
        let word = match self.switch.read().await {
            Err(Error::Http { absent: true, .. }) if self.purpose == Purpose::Restore => {
                return Ok(Proof::Idle(vec![format!("nothing answers at {}", self.switch.url)]));
            }
            word => word?,
        };
        let sentence = format!("{} shows {word}", self.switch.url);
        Ok(if word == self.paused { Proof::Idle(vec![sentence]) } else { Proof::Busy(vec![sentence]) })
    }

    /// For a check of the configuration: the word that is shown.
    pub(super) async fn word(&self) -> Result<Value, Error> {
        self.switch.read().await
    }
}

impl Adapter for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn look(&mut self) -> BoxFuture<'_, Result<Before, Error>> {
        Box::pin(self.look_now())
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.switch.set(&self.pause))
    }

    fn prove(&mut self) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.prove_now())
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn pause_limit(&self) -> Duration {
        self.switch.timeout
    }
}

/// Turns the switch back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    switch: Switch,
    document: Value,
    paused: Value,
}

impl Release {
    pub(super) async fn perform(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        let released = self.switch.word_of(&self.document)?;
        let mut word = self.switch.read().await?;
        if word == released && attempt.in_doubt {
            // The run was killed: what it sent last may arrive only now.
            tokio::time::sleep(LATE_PAUSE).await;
            word = self.switch.read().await?;
        }
        if word != self.paused {
            return Ok(());
        }
        self.switch.set(&self.document).await?;
        let word = self.switch.read().await?;
        if word == self.paused {
            let what = self.switch.url.clone();
            return Err(Error::Answer { what, answer: format!("it still shows {word} after the release") });
        }
        Ok(())
    }

    /// What it turns back.
    pub(super) fn subject(&self) -> String {
        format!("the switch {}", self.switch.url)
    }

    pub(super) fn limit(&self) -> Duration {
        self.switch.timeout * 4 + LATE_PAUSE
    }
}
