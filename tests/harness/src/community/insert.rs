//! Writing rows, few or many, by the same statements.

use identity::{approval::Rule, verdict::Verdict};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::{
    Community, FIRST_EVE_ID, Lists, Member, Newcomer, account_id, brand_id, character_id,
    newcomer::Token,
    sessions::{NewSession, first_token},
};

impl Community {
    /// Adds a brand and returns its id.
    pub async fn brand(&self, slug: &str, lists: &Lists) -> Uuid {
        let id = brand_id(self.take_numbers(1));
        sqlx::query("-- harness::community::brand\nINSERT INTO brands (id, slug) VALUES ($1, $2)")
            .bind(id)
            .bind(slug)
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("brand {slug}: {error}"));
        self.set_lists(id, lists).await;
        id
    }

    /// Replaces the approval lists of a brand.
    pub async fn set_lists(&self, brand: Uuid, lists: &Lists) {
        let sql = "-- harness::community::set_lists
            INSERT INTO auth_config (brand_id, require_membership, allowed_corporations, allowed_alliances,
                denied_corporations, denied_alliances)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (brand_id) DO UPDATE SET require_membership = $2, allowed_corporations = $3,
                allowed_alliances = $4, denied_corporations = $5, denied_alliances = $6, updated_at = now()";
        sqlx::query(sql)
            .bind(brand)
            .bind(lists.require_membership)
            .bind(&lists.allowed_corporations)
            .bind(&lists.allowed_alliances)
            .bind(&lists.denied_corporations)
            .bind(&lists.denied_alliances)
            .execute(&self.pool)
            .await
            .expect("auth_config can be written");
    }

    pub(super) async fn insert(&self, newcomers: Vec<(i64, Newcomer)>, is_bulk: bool) -> Vec<Member> {
        let members: Vec<Member> = newcomers.iter().map(|(number, newcomer)| self.member(*number, newcomer)).collect();
        let mut tx = self.pool.begin().await.expect("PostgreSQL answers");
        if is_bulk {
            // Foreign keys are checked row by row, which costs more than all the rest.
            sqlx::query("-- harness::community::insert\nSET LOCAL session_replication_role = replica")
                .execute(&mut *tx)
                .await
                .expect("we are superuser");
        }
        let rows: Vec<_> = newcomers.iter().map(|(_, newcomer)| newcomer).zip(&members).collect();
        insert_accounts(&mut tx, &rows).await;
        insert_characters(&mut tx, &rows).await;
        insert_eve_characters(&mut tx, &rows).await;
        self.insert_tokens(&mut tx, &rows).await;
        tx.commit().await.expect("the newcomers' rows fit the schema");

        let sessions = rows.iter().flat_map(|(newcomer, member)| sessions_of(newcomer, member));
        self.write_sessions(&sessions.collect::<Vec<_>>()).await;
        members
    }

    fn member(&self, number: i64, newcomer: &Newcomer) -> Member {
        let account_id = newcomer.account_id.unwrap_or_else(|| account_id(number));
        Member {
            name: newcomer.name.clone(),
            brand_id: newcomer.brand_id.unwrap_or(self.brand_id),
            account_id,
            character_id: character_id(number),
            eve_id: newcomer.eve_id.unwrap_or(FIRST_EVE_ID + number),
            session_tokens: (0..newcomer.sessions.len()).map(|place| first_token(account_id, number, place)).collect(),
        }
    }

    async fn insert_tokens(&self, tx: &mut Transaction<'_, Postgres>, rows: &[(&Newcomer, &Member)]) {
        let rows: Vec<_> = rows
            .iter()
            .filter_map(|(newcomer, member)| {
                let text = match newcomer.token.as_ref()? {
                    Token::Plain(token) => self.key.seal(&self.random, token),
                    Token::AsStored(text) => text.clone(),
                };
                Some((newcomer, member.eve_id, text))
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        let sql = "-- harness::community::insert_tokens
            INSERT INTO eve_tokens (eve_id, refresh_token, owner_hash, checked_at)
            SELECT eve_id, token, owner, COALESCE(now() - checked * interval '1 minute', 'epoch')
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS rows (eve_id, token, owner, checked)";
        sqlx::query(sql)
            .bind(column(&rows, |(_, eve_id, _)| *eve_id))
            .bind(column(&rows, |(_, _, token)| token.as_str()))
            .bind(column(&rows, |(newcomer, ..)| newcomer.owner_hash.as_deref()))
            .bind(column(&rows, |(newcomer, ..)| newcomer.token_checked_minutes_ago))
            .execute(&mut **tx)
            .await
            .unwrap_or_else(|error| panic!("tokens: {error}"));
    }
}

type Rows<'a> = [(&'a Newcomer, &'a Member)];

async fn insert_accounts(tx: &mut Transaction<'_, Postgres>, rows: &Rows<'_>) {
    let rows: Vec<_> = rows.iter().filter(|(newcomer, _)| newcomer.account_id.is_none()).collect();
    let sql = "-- harness::community::insert_accounts
        INSERT INTO accounts (id, brand_id, account, is_blocked, deleted_at, primary_character_id)
        SELECT id, brand_id, name, is_blocked, CASE WHEN is_deleted THEN now() END, character_id
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::boolean[], $5::boolean[], $6::uuid[])
            AS rows (id, brand_id, name, is_blocked, is_deleted, character_id)";
    sqlx::query(sql)
        .bind(column(&rows, |(_, member)| member.account_id))
        .bind(column(&rows, |(_, member)| member.brand_id))
        .bind(column(&rows, |(_, member)| member.name.as_str()))
        .bind(column(&rows, |(newcomer, _)| newcomer.is_blocked))
        .bind(column(&rows, |(newcomer, _)| newcomer.is_deleted))
        .bind(column(&rows, |(_, member)| member.character_id))
        .execute(&mut **tx)
        .await
        .unwrap_or_else(|error| panic!("accounts: {error}"));
}

async fn insert_characters(tx: &mut Transaction<'_, Postgres>, rows: &Rows<'_>) {
    let sql = "-- harness::community::insert_characters
        INSERT INTO characters (id, brand_id, account_id, name)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])";
    sqlx::query(sql)
        .bind(column(rows, |(_, member)| member.character_id))
        .bind(column(rows, |(_, member)| member.brand_id))
        .bind(column(rows, |(_, member)| member.account_id))
        .bind(column(rows, |(_, member)| member.name.as_str()))
        .execute(&mut **tx)
        .await
        .unwrap_or_else(|error| panic!("characters: {error}"));
}

async fn insert_eve_characters(tx: &mut Transaction<'_, Postgres>, rows: &Rows<'_>) {
    let sql = "-- harness::community::insert_eve_characters
        INSERT INTO eve_characters (eve_id, character_id, corporation_id, corporation_name, alliance_id, alliance_name,
            verdict, rule, verdict_since, last_verified_at, last_attempted_at)
        SELECT eve_id, character_id,
            corporation, CASE WHEN is_named THEN 'Corporation ' || corporation END,
            alliance, CASE WHEN is_named THEN 'Alliance ' || alliance END,
            verdict, rule, CASE WHEN rule IS NOT NULL THEN now() - COALESCE(verified, 0) * interval '1 minute' END,
            now() - verified * interval '1 minute', now() - attempted * interval '1 minute'
        FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[], $7::text[],
            $8::bigint[], $9::bigint[])
            AS rows (eve_id, character_id, corporation, alliance, is_named, verdict, rule, verified, attempted)";
    sqlx::query(sql)
        .bind(column(rows, |(_, member)| member.eve_id))
        .bind(column(rows, |(_, member)| member.character_id))
        .bind(column(rows, |(newcomer, _)| newcomer.corporation))
        .bind(column(rows, |(newcomer, _)| newcomer.alliance))
        .bind(column(rows, |(newcomer, _)| newcomer.is_named))
        .bind(column(rows, |(newcomer, _)| newcomer.last_rule().map(|rule| Verdict::of(rule).as_str())))
        .bind(column(rows, |(newcomer, _)| newcomer.last_rule().map(Rule::as_str)))
        .bind(column(rows, |(newcomer, _)| newcomer.verified_minutes_ago))
        .bind(column(rows, |(newcomer, _)| newcomer.attempted_minutes_ago))
        .execute(&mut **tx)
        .await
        .unwrap_or_else(|error| panic!("EVE characters: {error}"));
}

/// One column of many rows, as `unnest` takes it.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn sessions_of<'a>(newcomer: &'a Newcomer, member: &'a Member) -> impl Iterator<Item = NewSession<'a>> {
    let &Member { account_id, brand_id, character_id, .. } = member;
    newcomer.sessions.iter().zip(&member.session_tokens).map(move |(&spec, token)| NewSession {
        account_id,
        brand_id,
        character_id,
        token,
        spec,
    })
}
