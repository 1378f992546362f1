//! Sessions against a real Redis, one private server per test.

mod fixture;
mod junk;
mod layout;
mod lifecycle;
mod marked;
mod outage;
mod race;
mod slots;
mod take;
mod tokens;
