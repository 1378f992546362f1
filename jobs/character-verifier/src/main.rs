//! The hourly check; see the library for its story.

fn main() -> std::process::ExitCode {
    job::main::<character_verifier::CharacterVerifier>()
}
