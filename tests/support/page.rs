//! A page for an admin, as a test types it: all blocks marked `sh`, in order, in one shell; what a block marked `text` behind them shows must be seen.
#![allow(clippy::disallowed_methods, reason = "a test reads its own files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// A page.
#[derive(Debug)]
pub struct Page {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    script: String,
    /// Lines that are to be seen; `...` stands for anything.
    seen: Vec<String>,
}

/// What is before the output of a step, with its number.
const MARK: &str = "@@ step ";

impl Page {
    /// A page of `docs/disasters`.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/disasters").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut steps: Vec<Step> = Vec::new();
        let mut block: Option<(String, Vec<&str>)> = None;
        for line in text.lines() {
            match (&mut block, line.strip_prefix("```")) {
                (None, Some(kind)) => block = Some((kind.to_owned(), Vec::new())),
                (Some((_, lines)), None) => lines.push(line),
                (None, None) => {}
                (Some(_), Some(_)) => {
                    let (kind, lines) = block.take().unwrap();
                    match kind.as_str() {
                        "sh" => steps.push(Step { script: lines.join("\n"), seen: Vec::new() }),
                        "text" => {
                            let step = steps.last_mut().expect("what is seen comes after a command");
                            step.seen.extend(lines.into_iter().map(str::to_owned));
                        }
                        "console" => {}
                        other => panic!("{}: a block is marked {other:?}", path.display()),
                    }
                }
            }
        }
        assert!(block.is_none() && steps.len() > 3, "{}", path.display());
        Self { steps }
    }

    /// One script, that ends at the first command that fails.
    pub fn script(&self) -> String {
        use std::fmt::Write as _;
        let mut script = String::from("set -eu\n");
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(script, "echo '{MARK}{number}'\n{}", step.script).unwrap();
        }
        script
    }

    /// Everything that the page says one will see was seen.
    ///
    /// # Panics
    /// Something was not.
    pub fn assert_seen(&self, stdout: &str) {
        for (number, step) in self.steps.iter().enumerate() {
            let said = stdout.split(MARK).find_map(|part| part.strip_prefix(&format!("{number}\n")));
            let said = said.unwrap_or_else(|| panic!("step {number} was not done:\n{stdout}"));
            for line in &step.seen {
                assert!(said.lines().any(|one| fits(line, one)), "the page shows {line:?}, but:\n{said}");
            }
        }
    }
}

/// Whether a line is as the page shows it.
fn fits(shown: &str, line: &str) -> bool {
    let mut rest = line;
    let mut parts = shown.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        let found = if number + 1 == parts.len() {
            rest.ends_with(part).then_some(rest.len())
        } else {
            rest.find(part).map(|at| at + part.len())
        };
        let Some(end) = found else { return false };
        rest = &rest[end..];
    }
    rest.is_empty()
}

/// Programs that a page calls and that a test must play, in a directory for PATH: each call becomes a file, and waits for its exit code.
#[derive(Debug)]
pub struct Played {
    dir: PathBuf,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// The program and its arguments.
    pub words: Vec<String>,
    file: PathBuf,
}

impl Call {
    /// Ends it with this code.
    pub fn answer(self, code: i32) {
        let aside = self.file.with_extension("answering");
        fs::write(&aside, code.to_string()).unwrap();
        fs::remove_file(&self.file).unwrap();
        fs::rename(aside, self.file.with_extension("answer")).unwrap();
    }
}

impl Played {
    /// Makes the programs.
    pub fn new(dir: PathBuf, programs: &[&str]) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        fs::create_dir_all(dir.join("bin")).unwrap();
        for program in programs {
            let script = format!(
                "#!/bin/sh\nme='{dir}'/$$\necho \"{program} $*\" >\"$me.new\"\nmv \"$me.new\" \"$me.call\"\n\
                 until [ -e \"$me.answer\" ]; do sleep 0.02; done\ncode=$(cat \"$me.answer\")\nrm \"$me.answer\"\nexit \"$code\"\n",
                dir = dir.display()
            );
            let path = dir.join("bin").join(program);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // It becomes nobody else: the test's server trusts everybody.
        let sudo = dir.join("bin/sudo");
        fs::write(&sudo, "#!/bin/sh\n[ \"$1\" = -u ] || exit 2\nshift 2\nexec \"$@\"\n").unwrap();
        fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// Where they are.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// A call that waits.
    pub fn next(&self) -> Option<Call> {
        for entry in fs::read_dir(&self.dir).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|end| end == "call") {
                let text = fs::read_to_string(&file).unwrap();
                return Some(Call { words: text.split_whitespace().map(str::to_owned).collect(), file });
            }
        }
        None
    }
}
