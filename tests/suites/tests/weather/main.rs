//! `character-verifier` in bad weather: an ESI and an SSO that fail in every way the simulator knows, servers that go
//! away, processes that are killed. Whatever happens, nobody loses a session on half knowledge, nothing is half
//! written, and the next run completes the work.

mod cast;
mod faults;
mod table;
mod tokens;
