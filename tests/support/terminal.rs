//! A program on a terminal: what it asks there is answered by typing. The terminal is made by `script` of util-linux, which passes on what
//! it is told as if it were typed.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::disallowed_methods, reason = "a test starts its own programs and files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a program may take to say something.
const SOON: Duration = Duration::from_secs(30);

/// A terminal with a program on it.
pub struct Terminal {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// So much of what was said has been waited for.
    read: usize,
}

impl Terminal {
    /// Starts a command with its arguments, environment and directory.
    pub fn start(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().expect("text").replace('\'', r"'\''"))).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command"]);
        script.arg(format!("exec {}", words.join(" "))).arg("/dev/null");
        script.env("TERM", "xterm").env("SHELL", "/bin/sh").env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            script.current_dir(directory);
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().expect("script of util-linux");
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, heard) = (child.stdout.take().unwrap(), Arc::clone(&said));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                heard.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, said, reader: Some(reader), read: 0 }
    }

    /// Waits until it says this, after what was waited for before. Tells all that came until then.
    #[track_caller]
    pub fn until(&mut self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if let Some(at) = said[self.read..].find(words) {
                let new = said[self.read..self.read + at + words.len()].to_owned();
                self.read += new.len();
                return new;
            }
            let ended = self.child.try_wait().unwrap().is_some() && self.said() == said;
            assert!(!ended && begun.elapsed() < SOON, "no {words:?} in: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
    }

    /// Presses ctrl-C.
    pub fn interrupts(&mut self) {
        self.press("\x03");
    }

    fn press(&mut self, keys: &str) {
        let keyboard = self.child.stdin.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).and_then(|()| keyboard.flush()).expect("the terminal is there");
    }

    /// Waits for its end: the exit code, and all that was said.
    #[track_caller]
    pub fn ends(mut self) -> (i32, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < SOON, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.reader.take().unwrap().join().unwrap();
        (status.code().expect("script was not killed"), self.said())
    }

    /// All that was said, as a person sees it: without colours, with plain line ends.
    fn said(&self) -> String {
        let said = String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned();
        anstream::adapter::strip_str(&said).to_string().replace('\r', "")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With its terminal the program gets a hangup.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
