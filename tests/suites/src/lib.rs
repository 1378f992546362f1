//! Suites that start the real binaries against real servers.
