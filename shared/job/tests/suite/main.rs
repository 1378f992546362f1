//! The runner against real servers: its SQL, through a transaction-mode pooler, and a job's whole life as a process.

#[cfg(test)]
mod bookkeeping;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod telling;
