//! The one runner: lease, ledger, budget, batches, exit codes, progress.
