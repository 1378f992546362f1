//! Sessions against a real Redis, one private server per test.

mod fixture;
mod layout;
mod lifecycle;
mod outage;
mod race;
mod slots;
mod take;
mod tokens;
