//! The statements, as the job writes them, without what serves safety alone.

/// A page of due characters: after which place (key, id), before which key, verified before when.
pub(super) const DUE: &str = "-- bench::floor::due
    SELECT e.eve_id, e.character_id, a.id AS account_id, a.brand_id,
        COALESCE(a.primary_character_id = e.character_id, false) AS is_primary,
        e.corporation_id, e.alliance_id, e.verdict, e.rule, e.verdict_since, e.sweep_key, u.reason AS unresolvable
    FROM eve_characters e
    JOIN characters c ON c.id = e.character_id
    JOIN accounts a ON a.id = c.account_id
    LEFT JOIN unresolvable_ids u ON u.eve_id = e.eve_id AND u.expires_at > now()
    WHERE (e.sweep_key, e.eve_id) > ($1, $2)
        AND e.sweep_key < $3
        AND (e.last_verified_at IS NULL OR e.last_verified_at < $4)
        AND a.deleted_at IS NULL AND NOT a.is_blocked
        AND NOT EXISTS (SELECT FROM revocation_candidates k WHERE k.eve_id = e.eve_id AND k.found_at < $3)
    ORDER BY e.sweep_key, e.eve_id
    LIMIT 1000";

/// Time stamps of those about whom nothing changed.
pub(super) const STAMP: &str = "-- bench::floor::stamp
    UPDATE eve_characters SET last_verified_at = now() WHERE eve_id = ANY ($1)";

/// Those who moved: ids, corporations, alliances, their names, verdicts, rules, whether all is done.
pub(super) const MOVE: &str = "-- bench::floor::move
    UPDATE eve_characters e
    SET corporation_id = f.corporation_id, alliance_id = f.alliance_id,
        corporation_name = f.corporation_name, alliance_name = f.alliance_name,
        verdict = f.verdict, rule = f.rule,
        verdict_since = CASE WHEN e.verdict IS DISTINCT FROM f.verdict THEN now() ELSE e.verdict_since END,
        last_verified_at = CASE WHEN f.verified THEN now() ELSE e.last_verified_at END,
        last_attempted_at = CASE WHEN f.verified THEN e.last_attempted_at ELSE now() END
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
        AS f (eve_id, corporation_id, alliance_id, corporation_name, alliance_name, verdict, rule, verified)
    WHERE e.eve_id = f.eve_id";

/// Verdicts that would cost a session: EVE ids, characters, accounts, brands, corporations.
pub(super) const CANDIDATES: &str = "-- bench::floor::candidates
    INSERT INTO revocation_candidates
        (eve_id, character_id, account_id, brand_id, state, live, verdict, rule, corporation_id, observed_at, found_by)
    SELECT eve_id, character_id, account_id, brand_id, 'found', true, 'disallowed', 'not_a_member', corporation_id,
        now(), 'floor'
    FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[])
        AS c (eve_id, character_id, account_id, brand_id, corporation_id)";

/// A page of them, after which id.
pub(super) const FOUND: &str = "-- bench::floor::found
    SELECT eve_id, character_id, account_id, brand_id, corporation_id
    FROM revocation_candidates WHERE eve_id > $1 ORDER BY eve_id LIMIT 200";

/// Decisions: ids, EVE ids, characters, accounts, brands, corporations.
pub(super) const DECIDE: &str = "-- bench::floor::decide
    INSERT INTO pending_invalidations
        (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule, corporation_id, observed_at, decided_by)
    SELECT id, eve_id, character_id, account_id, brand_id, 'acting', 'disallowed', 'not_a_member', corporation_id,
        now(), 'floor'
    FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[])
        AS p (id, eve_id, character_id, account_id, brand_id, corporation_id)";

/// Candidates that are decided.
pub(super) const DROP: &str = "-- bench::floor::drop
    DELETE FROM revocation_candidates WHERE eve_id = ANY ($1)";

/// Decisions that are carried out.
pub(super) const CLEAR: &str = "-- bench::floor::clear
    DELETE FROM pending_invalidations WHERE id = ANY ($1)";

/// What was done: brands, accounts, characters, details.
pub(super) const AUDIT: &str = "-- bench::floor::audit
    INSERT INTO audit_logs (action, brand_id, account_id, character_id, details)
    SELECT 'session.invalidated', brand, account, character, details
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::jsonb[]) AS a (brand, account, character, details)";

/// Events: ids, accounts, brands, payloads.
pub(super) const EVENTS: &str = "-- bench::floor::events
    INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
    SELECT event_id, 'account', account, hashtext('account:' || account), brand, 'SESSION_INVALIDATED', payload
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::jsonb[]) AS e (event_id, account, brand, payload)";
