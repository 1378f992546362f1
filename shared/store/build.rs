//! Builds the crate again when a migration is added: the embedded list does not see new files by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
