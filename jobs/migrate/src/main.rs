//! Applies the schema; see the library for its story.

fn main() -> std::process::ExitCode {
    migrate::main()
}
