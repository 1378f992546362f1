//! `check`: the verifier's own dependencies, a line each.

use std::time::Duration;

use job::{CheckLine, Context};
use tokio::time::Instant;

use crate::{options::Settings, run, run::Run, tokens};

/// Longest wait for ESI.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reaches ESI, tries the key, reads the lists.
pub(crate) async fn lines(settings: &Settings, ctx: &Context) -> Vec<CheckLine> {
    let mut lines = Vec::new();
    match Run::start(ctx, settings).await {
        Ok(run) => {
            let unlisted = run.lists.values().filter(|lists| lists.denies_everybody()).count();
            let brands = run.lists.len();
            lines.push(CheckLine::ok(
                "auth_config",
                match unlisted {
                    0 => format!("{brands} brands"),
                    _ => format!(
                        "{brands} brands, {unlisted} of them allow nobody: no session will be taken without approval"
                    ),
                },
            ));
            lines.push(match tokens::check_key(&run).await {
                Ok(()) => CheckLine::ok("encryption_key", "fits the stored tokens"),
                Err(error) => CheckLine::failed("encryption_key", error),
            });
        }
        Err(error) => lines.push(CheckLine::failed("auth_config", error)),
    }
    let esi = run::client(ctx, settings);
    lines.push(match esi.status(Instant::now() + PATIENCE).await {
        Ok(status) if status.vip => CheckLine::ok("esi", "in VIP mode: runs will end upstream_down"),
        Ok(status) => CheckLine::ok("esi", format!("{} players online", status.players)),
        Err(esi::EsiError::Misconfigured(problem)) => CheckLine::failed("esi", job::JobError::config(problem)),
        Err(error) => CheckLine::failed("esi", job::JobError::retry(error)),
    });
    lines.push(match &settings.esi.user_agent_contact {
        Some(_) => CheckLine::ok("esi_contact", "sent with every call"),
        None => CheckLine::ok("esi_contact", "WARNING: ESI_CONTACT is not set; CCP blocks clients it cannot reach"),
    });
    lines.push(match &settings.esi.client {
        Some(client) => CheckLine::ok("eve_sso", format!("client {}", client.id)),
        None => CheckLine::ok("eve_sso", "EVE_CLIENT_ID is not set: tokens are not checked"),
    });
    lines
}
