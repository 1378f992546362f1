//! The verifier, as it is shipped.

use std::{path::PathBuf, time::Duration};

use harness::{Binary, ENCRYPTION_KEY, Finished};

use crate::ground::Run;

const NAME: &str = "character-verifier";
/// Far beyond any run here.
const PATIENCE: Duration = Duration::from_mins(15);

/// Where the binary is, for those who start it themselves.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("an executable knows where it is").with_file_name(NAME)
}

/// Its environment: the settings of the production overlay, without token checks unless `more` says otherwise.
pub(crate) fn environment(run: &Run, esi: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let fixed = [
        ("DATABASE_URL", run.database.as_str()),
        ("REDIS_URL", &run.redis),
        ("ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("ESI_BASE_URL", esi),
        ("EVE_SSO_URL", esi),
        ("ESI_CONTACT", "bench@example.org"),
        ("BATCH_SIZE", "1000"),
        ("DELAY_BETWEEN_BATCHES", "0"),
        ("MAX_CHARACTERS_PER_RUN", "0"),
        ("TOKEN_CHECKS_PER_RUN", "0"),
    ];
    fixed.iter().chain(more).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A whole run, which must end well.
pub(crate) async fn run(run: &Run, esi: &str, more: &[(&str, &str)]) -> Finished {
    let binary = environment(run, esi, more)
        .into_iter()
        .fold(Binary::new(NAME), |binary, (name, value)| binary.env(name, value));
    binary.start().wait(PATIENCE).await.expect_code(0)
}
