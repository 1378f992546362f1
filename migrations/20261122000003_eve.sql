-- EVE characters, what is known of them, and the way from a verdict to a lost session.

CREATE TABLE auth_config (
    brand_id             uuid PRIMARY KEY REFERENCES brands (id),
    require_membership   boolean NOT NULL DEFAULT true,
    allowed_corporations bigint[] NOT NULL DEFAULT '{}',
    allowed_alliances    bigint[] NOT NULL DEFAULT '{}',
    denied_corporations  bigint[] NOT NULL DEFAULT '{}',
    denied_alliances     bigint[] NOT NULL DEFAULT '{}',
    updated_at           timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE auth_config IS 'Approval lists, one row per brand. Denied corporation, denied alliance, membership not required, allowed corporation or alliance, otherwise denied.';
COMMENT ON COLUMN auth_config.brand_id IS 'The brand.';
COMMENT ON COLUMN auth_config.require_membership IS 'false: everybody who is not denied may stay.';
COMMENT ON COLUMN auth_config.allowed_corporations IS 'EVE corporation ids.';
COMMENT ON COLUMN auth_config.allowed_alliances IS 'EVE alliance ids.';
COMMENT ON COLUMN auth_config.denied_corporations IS 'EVE corporation ids; stronger than any allowance.';
COMMENT ON COLUMN auth_config.denied_alliances IS 'EVE alliance ids; stronger than any allowance.';
COMMENT ON COLUMN auth_config.updated_at IS 'When it was last changed.';

-- Kept narrow and with few indexes: an hourly sweep writes every row's time stamp, and each such write touches them all.
CREATE TABLE eve_characters (
    eve_id            bigint PRIMARY KEY CHECK (eve_id > 0),
    character_id      uuid NOT NULL UNIQUE REFERENCES characters (id) ON DELETE CASCADE,
    corporation_id    bigint,
    alliance_id       bigint,
    corporation_name  text,
    alliance_name     text,
    verdict           text CHECK (verdict IN ('allowed', 'disallowed', 'gone', 'transferred')),
    rule              text CHECK (rule IN ('denied_corporation', 'denied_alliance', 'membership_not_required', 'allowed_corporation', 'allowed_alliance', 'not_a_member', 'character_gone', 'owner_changed')),
    verdict_since     timestamptz,
    last_verified_at  timestamptz,
    last_attempted_at timestamptz,
    sweep_key         timestamptz NOT NULL GENERATED ALWAYS AS (COALESCE(GREATEST(last_verified_at, last_attempted_at), 'epoch'::timestamptz)) STORED,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT eve_characters_verdict_has_rule CHECK ((verdict IS NULL) = (rule IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX eve_characters_sweep ON eve_characters (sweep_key, eve_id);
CREATE INDEX eve_characters_nameless ON eve_characters (eve_id)
    WHERE (corporation_id IS NOT NULL AND corporation_name IS NULL) OR (alliance_id IS NOT NULL AND alliance_name IS NULL);
CREATE INDEX eve_characters_overdue ON eve_characters ((COALESCE(last_verified_at, created_at)))
    WHERE last_verified_at IS NULL OR last_attempted_at > last_verified_at;
COMMENT ON TABLE eve_characters IS 'Characters of EVE Online: where they stand, and what the last check made of it.';
COMMENT ON COLUMN eve_characters.eve_id IS 'The id in EVE Online.';
COMMENT ON COLUMN eve_characters.character_id IS 'Our character.';
COMMENT ON COLUMN eve_characters.corporation_id IS 'Corporation by the last successful check.';
COMMENT ON COLUMN eve_characters.alliance_id IS 'Alliance by the last successful check; null: none.';
COMMENT ON COLUMN eve_characters.corporation_name IS 'Null until resolved; never the name of a former one.';
COMMENT ON COLUMN eve_characters.alliance_name IS 'Null until resolved; never the name of a former one.';
COMMENT ON COLUMN eve_characters.verdict IS 'What the last check found; null until the first.';
COMMENT ON COLUMN eve_characters.rule IS 'The rule that gave the verdict.';
COMMENT ON COLUMN eve_characters.verdict_since IS 'When the present verdict was found first (grace counts from here).';
COMMENT ON COLUMN eve_characters.last_verified_at IS 'When a check last ended with a verdict that was acted on. Null: never.';
COMMENT ON COLUMN eve_characters.last_attempted_at IS 'When a check last ended without one, so that a row that keeps failing starves nobody.';
COMMENT ON COLUMN eve_characters.sweep_key IS 'Place in the sweep: the later of verified and attempted; the epoch (first) when neither.';
COMMENT ON COLUMN eve_characters.created_at IS 'When the character was linked.';

CREATE TABLE eve_tokens (
    eve_id              bigint PRIMARY KEY REFERENCES eve_characters (eve_id) ON DELETE CASCADE,
    refresh_token       text NOT NULL,
    owner_hash          text,
    checked_at          timestamptz NOT NULL DEFAULT 'epoch',
    invalid_grant_count integer NOT NULL DEFAULT 0,
    invalid_grant_since timestamptz,
    revoked_at          timestamptz
);
CREATE INDEX eve_tokens_sweep ON eve_tokens (checked_at, eve_id) WHERE revoked_at IS NULL;
COMMENT ON TABLE eve_tokens IS 'Stored EVE SSO refresh tokens; apart from eve_characters, so that the hourly sweep does not rewrite them.';
COMMENT ON COLUMN eve_tokens.eve_id IS 'Whose token.';
COMMENT ON COLUMN eve_tokens.refresh_token IS 'Envelope aesgcm:v1: under ENCRYPTION_KEY.';
COMMENT ON COLUMN eve_tokens.owner_hash IS 'Owner claim of the last access token; another one means that the character was transferred.';
COMMENT ON COLUMN eve_tokens.checked_at IS 'When it was last tried; the epoch: never.';
COMMENT ON COLUMN eve_tokens.invalid_grant_count IS 'How often in a row the SSO answered invalid_grant.';
COMMENT ON COLUMN eve_tokens.invalid_grant_since IS 'When the first of these was.';
COMMENT ON COLUMN eve_tokens.revoked_at IS 'Set when invalid_grant was seen three times over at least two hours; a new login clears it.';

CREATE TABLE unresolvable_ids (
    eve_id     bigint PRIMARY KEY,
    reason     text NOT NULL CHECK (reason IN ('not_found', 'deleted', 'affiliation_refuses')),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX unresolvable_ids_expiry ON unresolvable_ids (expires_at);
COMMENT ON TABLE unresolvable_ids IS 'Ids that fail a whole bulk call at ESI: kept out of it until they expire, never for ever.';
COMMENT ON COLUMN unresolvable_ids.eve_id IS 'The id in EVE Online.';
COMMENT ON COLUMN unresolvable_ids.reason IS 'not_found: ESI knows no such character; deleted: it was deleted; affiliation_refuses: only the bulk call refuses it, it is asked singly.';
COMMENT ON COLUMN unresolvable_ids.seen_at IS 'When it was last found so.';
COMMENT ON COLUMN unresolvable_ids.expires_at IS 'When it is asked again.';

CREATE TABLE revocation_candidates (
    eve_id         bigint PRIMARY KEY,
    character_id   uuid NOT NULL,
    account_id     uuid NOT NULL,
    brand_id       uuid NOT NULL,
    state          text NOT NULL CHECK (state IN ('found', 'disputed', 'held')),
    live           boolean NOT NULL,
    verdict        text NOT NULL CHECK (verdict IN ('disallowed', 'gone', 'transferred')),
    rule           text NOT NULL CHECK (rule IN ('denied_corporation', 'denied_alliance', 'not_a_member', 'character_gone', 'owner_changed')),
    corporation_id bigint,
    alliance_id    bigint,
    confirmed      boolean NOT NULL DEFAULT false,
    single_source  boolean NOT NULL DEFAULT false,
    observed_at    timestamptz NOT NULL,
    found_at       timestamptz NOT NULL DEFAULT now(),
    found_by       text NOT NULL
);
CREATE INDEX revocation_candidates_account ON revocation_candidates (account_id);
COMMENT ON TABLE revocation_candidates IS 'Verdicts that would cost a session, until they are confirmed and acted on, or are gone. No session is touched from here.';
COMMENT ON COLUMN revocation_candidates.eve_id IS 'The character in EVE Online.';
COMMENT ON COLUMN revocation_candidates.character_id IS 'Our character.';
COMMENT ON COLUMN revocation_candidates.account_id IS 'Whose session would go.';
COMMENT ON COLUMN revocation_candidates.brand_id IS 'The brand, for its lists.';
COMMENT ON COLUMN revocation_candidates.state IS 'found: of the present run; disputed: the second source disagreed; held: the circuit breaker refused, an operator may approve.';
COMMENT ON COLUMN revocation_candidates.live IS 'A live session would go; false: only the mark against a racing login is owed.';
COMMENT ON COLUMN revocation_candidates.verdict IS 'What was found.';
COMMENT ON COLUMN revocation_candidates.rule IS 'The rule that gave it.';
COMMENT ON COLUMN revocation_candidates.corporation_id IS 'The corporation it was found for.';
COMMENT ON COLUMN revocation_candidates.alliance_id IS 'The alliance it was found for.';
COMMENT ON COLUMN revocation_candidates.confirmed IS 'No second source is needed: it has confirmed itself.';
COMMENT ON COLUMN revocation_candidates.single_source IS 'Found by the very source that would confirm it: only the same answer in a later run does.';
COMMENT ON COLUMN revocation_candidates.observed_at IS 'Since when it is known, by the database''s clock.';
COMMENT ON COLUMN revocation_candidates.found_at IS 'When this row was last written.';
COMMENT ON COLUMN revocation_candidates.found_by IS 'The run that wrote it.';

CREATE TABLE pending_invalidations (
    id             uuid PRIMARY KEY,
    eve_id         bigint NOT NULL,
    character_id   uuid NOT NULL,
    account_id     uuid NOT NULL,
    brand_id       uuid NOT NULL,
    gate           text NOT NULL CHECK (gate IN ('acting', 'primary', 'any')),
    verdict        text NOT NULL CHECK (verdict IN ('disallowed', 'gone', 'transferred')),
    rule           text NOT NULL CHECK (rule IN ('denied_corporation', 'denied_alliance', 'not_a_member', 'character_gone', 'owner_changed')),
    corporation_id bigint,
    alliance_id    bigint,
    observed_at    timestamptz NOT NULL,
    decided_at     timestamptz NOT NULL DEFAULT now(),
    decided_by     text NOT NULL
);
CREATE INDEX pending_invalidations_account ON pending_invalidations (account_id);
COMMENT ON TABLE pending_invalidations IS 'Decided and confirmed, being carried out: a row here is completed, once, by this run or the next.';
COMMENT ON COLUMN pending_invalidations.id IS 'UUIDv7; names the receipt in Redis.';
COMMENT ON COLUMN pending_invalidations.eve_id IS 'The character in EVE Online.';
COMMENT ON COLUMN pending_invalidations.character_id IS 'Our character.';
COMMENT ON COLUMN pending_invalidations.account_id IS 'Whose sessions go.';
COMMENT ON COLUMN pending_invalidations.brand_id IS 'The brand, for event and audit.';
COMMENT ON COLUMN pending_invalidations.gate IS 'Which sessions: those that act as the character, or all of the account.';
COMMENT ON COLUMN pending_invalidations.verdict IS 'Why.';
COMMENT ON COLUMN pending_invalidations.rule IS 'The rule that matched.';
COMMENT ON COLUMN pending_invalidations.corporation_id IS 'The new corporation.';
COMMENT ON COLUMN pending_invalidations.alliance_id IS 'The new alliance.';
COMMENT ON COLUMN pending_invalidations.observed_at IS 'Sessions approved before this moment go, by the database''s clock.';
COMMENT ON COLUMN pending_invalidations.decided_at IS 'When it was decided.';
COMMENT ON COLUMN pending_invalidations.decided_by IS 'The run that decided.';
