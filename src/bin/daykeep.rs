//! The program `daykeep`.

fn main() -> std::process::ExitCode {
    daykeep::cli::main(std::env::args_os())
}
