//! Rates beside the ceilings measured in the same run.
