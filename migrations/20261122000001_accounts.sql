-- Brands, accounts and their characters.

CREATE TABLE brands (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE brands IS 'The outermost separation of accounts.';
COMMENT ON COLUMN brands.id IS 'UUIDv7.';
COMMENT ON COLUMN brands.slug IS 'Short name for people and configuration.';
COMMENT ON COLUMN brands.created_at IS 'When the brand was made.';

CREATE TABLE accounts (
    id                   uuid PRIMARY KEY,
    brand_id             uuid NOT NULL REFERENCES brands (id),
    account              text NOT NULL,
    email                text,
    role                 text NOT NULL DEFAULT 'player',
    account_origin       text NOT NULL DEFAULT 'permanent' CHECK (account_origin IN ('permanent', 'guest', 'visitor')),
    is_guest             boolean NOT NULL DEFAULT false,
    guest_expires_at     timestamptz,
    is_blocked           boolean NOT NULL DEFAULT false,
    primary_character_id uuid,
    tokens_valid_after   timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    CONSTRAINT accounts_permanent_is_no_guest
        CHECK (account_origin <> 'permanent' OR (NOT is_guest AND guest_expires_at IS NULL))
);
CREATE UNIQUE INDEX accounts_brand_account ON accounts (brand_id, lower(account)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX accounts_brand_email ON accounts (brand_id, lower(email)) WHERE deleted_at IS NULL AND email IS NOT NULL;
CREATE INDEX accounts_brand ON accounts (brand_id);
COMMENT ON TABLE accounts IS 'One login identity inside one brand.';
COMMENT ON COLUMN accounts.id IS 'UUIDv7.';
COMMENT ON COLUMN accounts.brand_id IS 'The brand it belongs to, for ever.';
COMMENT ON COLUMN accounts.account IS 'Login name; unique in the brand among accounts not deleted, whatever the case.';
COMMENT ON COLUMN accounts.email IS 'Address, where there is one; unique in the brand among accounts not deleted.';
COMMENT ON COLUMN accounts.role IS 'player or a staff role.';
COMMENT ON COLUMN accounts.account_origin IS 'permanent, or how a temporary account came to be; an upgrade sets permanent.';
COMMENT ON COLUMN accounts.is_guest IS 'A temporary account; never together with account_origin permanent.';
COMMENT ON COLUMN accounts.guest_expires_at IS 'When a guest ends.';
COMMENT ON COLUMN accounts.is_blocked IS 'Kept out by staff; not verified, not logged in.';
COMMENT ON COLUMN accounts.primary_character_id IS 'The character chosen to stand for the account (GATE=primary); no foreign key, since characters refer to accounts.';
COMMENT ON COLUMN accounts.tokens_valid_after IS 'Tokens issued before this moment are refused.';
COMMENT ON COLUMN accounts.created_at IS 'When the account was made.';
COMMENT ON COLUMN accounts.deleted_at IS 'When it was deleted; the row stays for history.';

CREATE TABLE characters (
    id         uuid PRIMARY KEY,
    brand_id   uuid NOT NULL REFERENCES brands (id),
    account_id uuid REFERENCES accounts (id),
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX characters_account ON characters (account_id);
CREATE INDEX characters_brand ON characters (brand_id);
COMMENT ON TABLE characters IS 'Playable avatars.';
COMMENT ON COLUMN characters.id IS 'UUIDv7; the id that sessions act as.';
COMMENT ON COLUMN characters.brand_id IS 'The brand it lives in.';
COMMENT ON COLUMN characters.account_id IS 'Whose it is; null when detached.';
COMMENT ON COLUMN characters.name IS 'Display name.';
COMMENT ON COLUMN characters.created_at IS 'When it was made.';

CREATE TABLE audit_logs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at  timestamptz NOT NULL DEFAULT now(),
    action       text NOT NULL,
    actor_id     uuid,
    brand_id     uuid,
    account_id   uuid,
    character_id uuid,
    details      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_logs_account ON audit_logs (account_id, occurred_at);
CREATE INDEX audit_logs_action ON audit_logs (action, occurred_at);
COMMENT ON TABLE audit_logs IS 'What was done to whom, by whom. No foreign keys: deleting an account never touches its history.';
COMMENT ON COLUMN audit_logs.id IS 'Order of writing.';
COMMENT ON COLUMN audit_logs.occurred_at IS 'When, by the database''s clock.';
COMMENT ON COLUMN audit_logs.action IS 'What, for example session.invalidated.';
COMMENT ON COLUMN audit_logs.actor_id IS 'The account that did it; null when a job did.';
COMMENT ON COLUMN audit_logs.brand_id IS 'The brand of the account.';
COMMENT ON COLUMN audit_logs.account_id IS 'The account it was done to.';
COMMENT ON COLUMN audit_logs.character_id IS 'The character it was done to, where there is one.';
COMMENT ON COLUMN audit_logs.details IS 'Ids, rule, reason; never a contact, token or code.';

CREATE TABLE outbox_events (
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       uuid NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    aggregate_hash integer NOT NULL,
    brand_id       uuid NOT NULL,
    event_type     text NOT NULL,
    payload        jsonb NOT NULL,
    occurred_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox_events IS 'Transactional outbox: written in the transaction whose effect it tells of, published by the drain.';
COMMENT ON COLUMN outbox_events.seq IS 'Order of an aggregate''s events; taken under a lock of the aggregate.';
COMMENT ON COLUMN outbox_events.event_id IS 'UUIDv7, by which consumers recognise a repeat.';
COMMENT ON COLUMN outbox_events.aggregate_type IS 'What kind of thing changed, for example account.';
COMMENT ON COLUMN outbox_events.aggregate_id IS 'Which one.';
COMMENT ON COLUMN outbox_events.aggregate_hash IS 'Hash of the aggregate, from which the drain derives its partition.';
COMMENT ON COLUMN outbox_events.brand_id IS 'The brand of the aggregate.';
COMMENT ON COLUMN outbox_events.event_type IS 'What happened, for example SESSION_INVALIDATED.';
COMMENT ON COLUMN outbox_events.payload IS 'The event''s body.';
COMMENT ON COLUMN outbox_events.occurred_at IS 'When, by the database''s clock.';
