//! Builds the crate again when a migration is added: the embedded list does not see new files by itself.

#[expect(clippy::print_stdout, reason = "the way to talk to cargo")]
fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
