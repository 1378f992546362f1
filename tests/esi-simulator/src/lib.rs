//! A real HTTP server that speaks EVE's ESI and SSO, faults included.
//!
//! It exists so that a client can be tested over real sockets against everything the real services do: error limits,
//! token buckets, stale answers, downtime, half-written bodies. It is strict: whatever the rules forbid is answered
//! as the real one would and recorded as a violation, so that a test can end with "and broke no rule". It simulates
//! no login page and no route the verifier does not need.
//!
//! ```
//! use esi_simulator::{Alliance, Character, Corporation, Fault, Kind, Route, Scope, Simulator, World};
//!
//! let mut world = World::default();
//! world.put_alliance(Alliance::new(99_000_001));
//! world.put_corporation(Corporation::new(98_000_001, Some(99_000_001)));
//! world.put_character(Character::new(90_000_001, 98_000_001));
//! let refresh_token = world.issue_refresh_token(90_000_001);
//!
//! let simulator = Simulator::start(world);
//! let (esi, sso) = (simulator.url(), simulator.sso_url());
//! simulator.faults().add(Fault::on(Route::Affiliation, Kind::BadGateway).first(2));
//! simulator.faults().add(Fault::on(Scope::Sso, Kind::Slow { ms: 20 }));
//! simulator.settings(|settings| settings.error_limit = 25);
//! // … let the client work, change the world while it does …
//! simulator.world(|world| world.move_character(90_000_001, 98_000_002));
//! assert_eq!(simulator.violations(), Vec::<String>::new());
//! assert_eq!(simulator.counts().arrived(Route::Affiliation), 0);
//! # let _ = (esi, sso, refresh_token);
//! ```
//!
//! | to | use |
//! |---|---|
//! | hold a million characters | [`World::generate`] |
//! | let one id fail a batch | leave it out of the world, [`CharacterState`], or [`Fault::bad_ids`] |
//! | show an old corporation | [`Kind::StaleOrganisation`], or [`AllianceShown::Stale`] |
//! | be at 11:05 UTC | [`Simulator::set_time`] with [`Kind::Downtime`] |
//! | wait until the client is in a call | [`Kind::Hang`] and [`Simulator::wait_for`] |
//! | exhaust a limit | [`Settings::error_limit`], [`Settings::token_buckets`], [`Kind::ErrorLimited`] |
//! | skip the time a limit or a cache lasts | [`Simulator::advance`] |
//!
//! The binary `esi-simulator` serves the same, steered over HTTP:
//!
//! | request | body |
//! |---|---|
//! | `POST /_sim/world` | [`WorldUpdate`], e.g. `{"generate": {"first_id": 90000001, "count": 1000, "corporations": [98000001]}}` |
//! | `POST /_sim/faults` | a list of [`Fault`] |
//! | `DELETE /_sim/faults` | |
//! | `GET`, `POST /_sim/settings` | the fields of [`Settings`] to change |
//! | `POST /_sim/clock` | `{"now": "2026-11-22T11:05:00Z"}` or `{"advance_seconds": 60}` |
//! | `GET`, `DELETE /_sim/requests` | answers [`Counts`] and the violations |

mod call;
mod clock;
mod control;
mod entities;
mod esi;
mod fault;
mod limits;
mod log;
mod manners;
mod replace;
mod reply;
mod route;
mod script;
mod serve;
mod settings;
mod shared;
mod simulator;
mod sso;
mod token;
mod wire;
mod world;

pub use entities::{Alliance, AllianceShown, Character, CharacterState, Corporation};
pub use fault::{BadToken, Fault, Kind, RetryAfterForm, Scope, When};
pub use log::{Counts, Recorded, RouteCounts};
pub use route::Route;
pub use script::FaultId;
pub use settings::{Audience, Issuer, Scopes, Settings, TokenBucket};
pub use simulator::{Faults, Simulator};
pub use world::{DOOMHEIM, Generated, RefreshToken, Whereabouts, World, WorldUpdate};
