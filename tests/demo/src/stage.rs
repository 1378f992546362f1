//! The private servers, the seeded community, and the shipped binaries with their environment.

use esi_simulator::{Route, Simulator};
use harness::{Binary, Community, Crowd, ENCRYPTION_KEY, Pushgateway, TestDb};

use crate::{
    cast::{self, CORPORATIONS, PILOTS},
    layout::{Screen, thousands},
    summary,
};

/// Seconds until the simulated answers about one character or corporation expire: hours last seconds here.
const EXPIRES_SECONDS: i64 = 1;

/// Everything that runs beside the verifier.
pub(crate) struct Stage {
    pub(crate) db: TestDb,
    pub(crate) community: Community,
    pub(crate) crowd: Crowd,
    pub(crate) esi: Simulator,
    pub(crate) pushgateway: Pushgateway,
    environment: Vec<(&'static str, String)>,
}

impl Stage {
    /// Starts the servers, migrates by the real binary, seeds; and tells of it.
    pub(crate) async fn set_up() -> Self {
        let db = empty_database().await;
        let mut screen = Screen::titled("Rollcall, character-verifier: setting up");
        let migrated = Binary::new("migrate").env("DATABASE_URL", db.url()).run().await.expect_code(0);

        let community = Community::new(&db).await;
        community.set_lists(community.brand_id(), &cast::lists()).await;
        let crowd = community.crowd(PILOTS, cast::pilot).await;
        name_organisations(&db).await;

        let esi = Simulator::start(cast::world(|place| crowd.eve_id(place)));
        esi.settings(|settings| {
            for route in [Route::Character, Route::Corporation] {
                settings.cache_seconds.insert(route, EXPIRES_SECONDS);
            }
        });
        let pushgateway = Pushgateway::start();
        let environment = environment(&db, &esi, &pushgateway);

        screen.text(
            "Real PostgreSQL, Redis and Pushgateway on free ports of the loopback interface, in a temporary folder that \
             goes with them. ESI and the SSO are simulated.",
        );
        screen.table(&[
            vec!["PostgreSQL".to_owned(), db.url().to_owned()],
            vec!["Redis".to_owned(), db.redis_url().to_owned()],
            vec!["Pushgateway".to_owned(), pushgateway.url()],
            vec![
                "ESI, SSO".to_owned(),
                format!(
                    "{} (sheets expire after {EXPIRES_SECONDS} s here, on the real ESI after up to a day)",
                    esi.url()
                ),
            ],
        ]);
        screen.line("");
        screen.command(&program("migrate"));
        summary::show(&mut screen, &migrated);
        screen.line("");
        screen.text(&format!(
            "Seeded: {} accounts, each with an EVE character and a live session that acts as it; {} have a stored SSO \
             token. The brand's lists allow the alliance Northern Accord and the corporation Free Surveyors, and deny \
             Quiet Eyes whatever its alliance.",
            thousands(PILOTS),
            thousands((0..PILOTS).filter(|place| cast::has_token(*place)).count()),
        ));
        let homes = CORPORATIONS.iter().map(|home| {
            let alliance = home.alliance.map_or("no alliance", cast::alliance_name);
            vec![home.name.to_owned(), alliance.to_owned(), thousands(home.pilots)]
        });
        screen.table(&homes.collect::<Vec<_>>());
        screen.line("");
        screen.text(
            "Each run that follows stands for one hour: VERIFICATION_THRESHOLD_MINUTES=0 makes everybody due in each. \
             BATCH_SIZE=1000, DELAY_BETWEEN_BATCHES=0 and MAX_CHARACTERS_PER_RUN=0 are the values for production.",
        );
        screen.show();
        Self { db, community, crowd, esi, pushgateway, environment }
    }

    /// What the verifier's runs find in their environment.
    pub(crate) fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// The verifier with its environment.
    pub(crate) fn verifier(&self) -> Binary {
        self.binary("character-verifier")
    }

    /// A shipped binary with that environment.
    pub(crate) fn binary(&self, name: &str) -> Binary {
        self.environment.iter().fold(Binary::new(name), |binary, (name, value)| binary.env(name, value))
    }
}

/// How a binary of this workspace is called from here.
pub(crate) fn program(name: &str) -> String {
    let folder = std::env::current_exe().ok().and_then(|path| path.parent().map(std::path::Path::to_path_buf));
    let Some(folder) = folder else { return name.to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    folder.strip_prefix(&here).unwrap_or(&folder).join(name).display().to_string()
}

/// The harness hands out migrated databases; here the migration is part of the story.
async fn empty_database() -> TestDb {
    let db = TestDb::new().await;
    for sql in ["-- demo::empty_database\nDROP SCHEMA public CASCADE", "-- demo::empty_database\nCREATE SCHEMA public"]
    {
        sqlx::query(sql).execute(db.pool()).await.expect("PostgreSQL answers");
    }
    db
}

/// Names as earlier runs would have learnt them.
async fn name_organisations(db: &TestDb) {
    let names = CORPORATIONS.iter().map(|home| (home.id, home.name));
    let (ids, names): (Vec<i64>, Vec<&str>) = names.unzip();
    sqlx::query(
        "-- demo::name_organisations
        UPDATE eve_characters SET corporation_name = name,
            alliance_name = CASE WHEN alliance_id IS NOT NULL THEN $3 END
        FROM unnest($1::bigint[], $2::text[]) AS corporations (id, name) WHERE corporation_id = id",
    )
    .bind(ids)
    .bind(names)
    .bind(cast::alliance_name(cast::NORTHERN_ACCORD))
    .execute(db.pool())
    .await
    .expect("PostgreSQL answers");
}

fn environment(db: &TestDb, esi: &Simulator, pushgateway: &Pushgateway) -> Vec<(&'static str, String)> {
    let (client, secret) = esi.settings(|settings| (settings.client_id.clone(), settings.client_secret.clone()));
    vec![
        ("DATABASE_URL", db.url().to_owned()),
        ("REDIS_URL", db.redis_url().to_owned()),
        ("PUSHGATEWAY_URL", pushgateway.url()),
        ("ENCRYPTION_KEY", ENCRYPTION_KEY.to_owned()),
        ("ESI_BASE_URL", esi.url()),
        ("EVE_SSO_URL", esi.sso_url()),
        ("EVE_CLIENT_ID", client),
        ("EVE_CLIENT_SECRET", secret),
        ("ESI_CONTACT", "demo@example.org".to_owned()),
        ("BATCH_SIZE", "1000".to_owned()),
        ("DELAY_BETWEEN_BATCHES", "0".to_owned()),
        ("MAX_CHARACTERS_PER_RUN", "0".to_owned()),
        ("VERIFICATION_THRESHOLD_MINUTES", "0".to_owned()),
    ]
}
