//! The way of a request: recorded, checked, hit by faults, answered, settled.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;

use crate::call::Call;
use crate::fault::Kind;
use crate::log::End;
use crate::replace::{deface, replacement};
use crate::reply::Reply;
use crate::route::Route;
use crate::script::Hit;
use crate::shared::Shared;
use crate::wire::Scissors;
use crate::{esi, sso};

pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    let mut call = Call::read(request).await;
    let number = shared.arrived(&call);
    let refused = admit(&shared, &call);
    let hits = if refused.is_none() { draw(&shared, &mut call) } else { Vec::new() };
    delay(&shared, &hits).await;
    if hits.iter().any(|hit| hit.kind == Kind::Hang) {
        // Ends when the client leaves, for then the server drops this future.
        std::future::pending::<()>().await;
    }
    let mut reply = refused.unwrap_or_else(|| answer(&shared, &call, &hits));
    deface(&hits, &mut reply);
    if !call.route.is_sso() {
        let (now, settings) = (shared.now(), shared.settings());
        shared.manners().settle(&settings, now, &call, &mut reply);
    }
    shared.ended(number, &end(&hits, &scissors, reply.status));
    reply.into_response()
}

/// Records what the client did wrong; the answer, if that is all it gets.
fn admit(shared: &Shared, call: &Call) -> Option<Reply> {
    let (broken, refused) = if call.route.is_sso() {
        (sso::broken_rules(call), None)
    } else {
        let (now, settings) = (shared.now(), shared.settings());
        shared.manners().admit(&settings, now, call)
    };
    shared.broken(call, broken);
    refused
}

/// The faults that hit the call. A refresh token stands for its holder.
fn draw(shared: &Shared, call: &mut Call) -> Vec<Hit> {
    if call.route == Route::Token {
        let holder = call.form.get("refresh_token").and_then(|token| shared.world().refresh_token_holder(token));
        call.named.extend(holder);
    }
    shared.script().take(call.route, &call.named)
}

async fn delay(shared: &Shared, hits: &[Hit]) {
    let slow = hits.iter().map(|hit| if let Kind::Slow { ms } = hit.kind { ms } else { 0 });
    let ms = shared.settings().latency_ms + slow.sum::<u64>();
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn answer(shared: &Shared, call: &Call, hits: &[Hit]) -> Reply {
    let (now, settings) = (shared.now(), shared.settings());
    let replaced = replacement(hits, call.route, &settings, now, &mut shared.manners());
    if let Some(reply) = replaced {
        return reply;
    }
    if call.route.is_sso() {
        sso::answer(&mut shared.world_mut(), &settings, &shared.signer, call, hits)
    } else {
        esi::answer(&shared.world(), &settings, call, hits)
    }
}

fn end(hits: &[Hit], scissors: &Scissors, status: u16) -> End {
    for hit in hits {
        match hit.kind {
            Kind::CutBeforeHeaders => scissors.cut_before_headers(),
            Kind::CutMidBody => scissors.cut_mid_body(),
            _ => continue,
        }
        return End::Cut;
    }
    End::Status(status)
}
