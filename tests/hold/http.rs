//! The adapter `http`, against a server of the test's own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::conformance::{Subject, every_promise};
use crate::driver::Place;

#[derive(Default)]
struct State {
    status: String,
    puts: Vec<String>,
    failing: bool,
    token: String,
}

/// A maintenance switch as Synapse has it.
struct Switch {
    place: Place,
    url: String,
    state: Arc<Mutex<State>>,
}

impl Switch {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/status", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { status: "READ_WRITE".to_owned(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        let switch = Self { place: Place::new(), url, state };
        switch.configure("max = \"30s\"\ndrain = \"2s\"");
        switch
    }

    fn set(&self, status: &str) {
        status.clone_into(&mut self.state.lock().unwrap().status);
    }

    fn puts(&self) -> Vec<String> {
        self.state.lock().unwrap().puts.clone()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.to_lowercase());
        }
        let header =
            |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
        let length = header("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0_u8; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut state = state.lock().unwrap();
        let authorized = state.token.is_empty() || header("authorization:").as_deref() == Some(&state.token);
        let (code, text) = if !authorized {
            ("401 Unauthorized", r#"{"reason":"who are you"}"#.to_owned())
        } else if state.failing {
            ("503 Service Unavailable", "the backend is down".to_owned())
        } else if head[0].starts_with("put") {
            let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let status = document["status"].as_str().unwrap().to_owned();
            state.puts.push(status.clone());
            state.status = status;
            ("200 OK", "{}".to_owned())
        } else {
            ("200 OK", format!(r#"{{"status":"{}","currentMessage":""}}"#, state.status))
        };
        drop(state);
        let answer = format!("HTTP/1.1 {code}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Subject for Switch {
    fn place(&self) -> &Place {
        &self.place
    }

    fn configure(&self, general: &str) {
        let settings = format!(
            "url = \"{}\"\nfield = \"/status\"\ntimeout = \"5s\"\n\
             pause = {{ status = \"READ_ONLY\", currentMessage = \"backup\" }}\n\
             release = {{ status = \"READ_WRITE\" }}\n\
             headers = {{ Authorization = {{ credential = \"app-token\" }} }}",
            self.url
        );
        std::fs::create_dir_all(self.place.path("credentials")).unwrap();
        std::fs::write(self.place.path("credentials/app-token"), "bearer geheim\n").unwrap();
        self.place.configure(general, "http", &settings, None);
    }

    fn runs(&self) -> bool {
        self.state.lock().unwrap().status == "READ_WRITE"
    }

    fn operator_stops(&self) {
        self.set("READ_ONLY");
    }

    fn operator_starts(&self) {
        self.set("READ_WRITE");
    }

    fn releases(&self) -> Option<usize> {
        Some(self.puts().iter().filter(|status| *status == "READ_WRITE").count())
    }
}

#[test]
fn it_does_what_every_adapter_does() {
    let switch = Switch::new();
    let plain = Plain(&switch);
    plain.configure("max = \"30s\"\ndrain = \"2s\"");
    every_promise(&plain);
}

/// The same switch without a credential in its configuration.
struct Plain<'a>(&'a Switch);

impl Subject for Plain<'_> {
    fn place(&self) -> &Place {
        &self.0.place
    }

    fn configure(&self, general: &str) {
        self.0.configure(general);
        let path = self.0.place.path("daykeep.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace("Authorization = { credential = \"app-token\" }", "Accept = \"application/json\""),
        )
        .unwrap();
    }

    fn runs(&self) -> bool {
        self.0.runs()
    }

    fn operator_stops(&self) {
        self.0.operator_stops();
    }

    fn operator_starts(&self) {
        self.0.operator_starts();
    }

    fn releases(&self) -> Option<usize> {
        self.0.releases()
    }
}

#[test]
fn a_credential_is_sent_and_never_written_down() {
    let switch = Switch::new();
    switch.state.lock().unwrap().token = "bearer geheim".to_owned();
    let mut run = switch.place.run_with(|command| {
        command.env("CREDENTIALS_DIRECTORY", switch.place.path("credentials"));
    });
    run.expect("held");
    let record = std::fs::read_to_string(switch.place.record()).unwrap();
    assert!(record.contains("app-token") && !record.contains("geheim"), "{record}");
    run.kill();
    switch.place.wait_for_no_record();
    assert!(switch.runs(), "the guard has the same credentials");
    let text = switch.place.run().expect_error("Credential");
    assert!(text.starts_with("the credential app-token is not available"), "{text}");
}

#[test]
fn what_an_operator_has_turned_meanwhile_is_left_alone() {
    let switch = Switch::new();
    let plain = Plain(&switch);
    plain.configure("max = \"30s\"\ndrain = \"2s\"");
    let mut run = switch.place.held();
    switch.set("DOWN");
    run.tell("still");
    run.expect_error("NotIdle");
    run.tell("release");
    run.expect("released");
    assert_eq!(switch.puts(), ["READ_ONLY"], "DOWN was not ended");
    let text = switch.place.run().expect_error("Answer");
    assert!(text.contains("\"DOWN\", which neither pauses nor releases"), "{text}");
    assert_eq!(switch.puts(), ["READ_ONLY"], "and not weakened");
}

#[test]
fn a_switch_that_fails_is_an_error_and_its_release_is_tried_again() {
    let switch = Switch::new();
    let plain = Plain(&switch);
    plain.configure("max = \"30s\"\ndrain = \"2s\"");
    let mut run = switch.place.held();
    switch.state.lock().unwrap().failing = true;
    run.tell("release");
    let text = run.expect_error("StillPaused");
    assert!(text.contains("503 Service Unavailable: the backend is down"), "{text}");
    let text = switch.place.probe()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("503"), "{text}");
    switch.state.lock().unwrap().failing = false;
    switch.place.wait_for_no_record();
    assert!(switch.runs());
}

#[test]
fn a_switch_that_nobody_serves_counts_as_stopped_for_a_restore() {
    let place = Place::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).unwrap();
    let settings = format!(
        "url = \"http://{address}/maintenance\"\nfield = \"/status\"\npause = {{ status = \"DOWN\" }}\n\
         release = {{ status = \"READ_WRITE\" }}"
    );
    place.configure("max = \"30s\"\ndrain = \"2s\"", "http", &settings, None);
    place.run().expect_error("Http");
    let mut run = place.start("restore", |_| {});
    let proofs = run.expect("held")["evidence"]["proofs"].to_string();
    assert!(proofs.contains("cannot be reached (") && proofs.contains("nothing was paused"), "{proofs}");
    run.tell("release");
    run.expect("released");
}
