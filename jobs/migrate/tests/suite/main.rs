//! The binary against a real database, through a transaction-mode pooler.

#[cfg(test)]
mod schema;
