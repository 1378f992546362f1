//! The runner against real servers: its SQL, through a transaction-mode pooler, and a job's whole life as a process.

mod bookkeeping;
mod configuration;
mod leases;
mod lives;
mod probe;
mod schema;
mod telling;
