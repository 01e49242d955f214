//! The configuration: what is taken, what is refused, and in which words.

use std::path::{Path, PathBuf};

use daykeep::config;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files_in(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = project(directory);
    let files: Vec<PathBuf> = daykeep::fs::names_in(&directory)
        .expect("the directory is there")
        .into_iter()
        .map(|name| directory.join(name))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    assert!(!files.is_empty(), "no .{extension} in {}", directory.display());
    files
}

fn load(path: &Path) -> config::Config {
    config::load(path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn every_sample_is_right() {
    for path in files_in("config", "toml") {
        assert!(!load(&path).repositories.is_empty(), "{}", path.display());
    }
}

#[test]
fn what_is_in_force_reads_as_the_same_configuration() {
    for path in files_in("config", "toml") {
        let config = load(&path);
        let text = config.as_toml();
        let again =
            config::parse(&path, &text).unwrap_or_else(|error| panic!("{}\n{text}", error.render(false)));
        assert_eq!(again, config, "{text}");
        assert_eq!(again.as_toml(), text);
    }
}
