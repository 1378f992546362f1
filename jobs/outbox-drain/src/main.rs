//! The drain of the outbox; see the library for its story.

fn main() -> std::process::ExitCode {
    job::main::<outbox_drain::OutboxDrain>()
}
