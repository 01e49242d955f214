//! Makes a tree of small files for the benches: `make_tree ROOT FILES DIRECTORIES`, the files named and spread by a hash, as
//! repositories that name files by their content do.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a bench program of its own")]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, files, directories] = args.as_slice() else {
        eprintln!("usage: make_tree ROOT FILES DIRECTORIES (256 or 65536)");
        return ExitCode::from(2);
    };
    let (Ok(files), Ok(directories)) = (files.parse::<u64>(), directories.parse::<u32>()) else {
        eprintln!("make_tree: FILES and DIRECTORIES are numbers");
        return ExitCode::from(2);
    };
    match make(Path::new(root), files, directories > 256) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make_tree: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(root: &Path, files: u64, two_levels: bool) -> std::io::Result<()> {
    for number in 0..files {
        let name = blake3::hash(&number.to_le_bytes()).to_hex();
        let mut directory = root.join(&name[..2]);
        if two_levels {
            directory.push(&name[2..4]);
        }
        let path = directory.join(&name[..40]);
        let mut file = match std::fs::File::create(&path) {
            Ok(file) => file,
            Err(_) => {
                std::fs::create_dir_all(&directory)?;
                std::fs::File::create(&path)?
            }
        };
        file.write_all(name.repeat(2).as_bytes())?;
    }
    Ok(())
}
