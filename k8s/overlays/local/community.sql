-- A brand and 5,000 characters, those that the simulator of this overlay knows. Harmless to repeat:
--   kubectl -n rollcall exec -i deploy/postgres -- psql -q -U rollcall < k8s/overlays/local/community.sql
-- Ids are made from numbers, so that a second time finds the same rows.
BEGIN;
INSERT INTO brands (id, slug) VALUES ('00000000-0000-4000-8000-000000000001', 'local') ON CONFLICT DO NOTHING;
INSERT INTO auth_config (brand_id, allowed_alliances)
VALUES ('00000000-0000-4000-8000-000000000001', '{99000001}') ON CONFLICT DO NOTHING;
INSERT INTO accounts (id, brand_id, account)
SELECT format('00000000-0000-4000-8001-%s', lpad(n::text, 12, '0'))::uuid,
       '00000000-0000-4000-8000-000000000001', 'pilot-' || n
FROM generate_series(1, 5000) AS n ON CONFLICT DO NOTHING;
INSERT INTO characters (id, brand_id, account_id, name)
SELECT format('00000000-0000-4000-8002-%s', lpad(n::text, 12, '0'))::uuid,
       '00000000-0000-4000-8000-000000000001',
       format('00000000-0000-4000-8001-%s', lpad(n::text, 12, '0'))::uuid, 'Pilot ' || n
FROM generate_series(1, 5000) AS n ON CONFLICT DO NOTHING;
INSERT INTO eve_characters (eve_id, character_id)
SELECT 90000000 + n, format('00000000-0000-4000-8002-%s', lpad(n::text, 12, '0'))::uuid
FROM generate_series(1, 5000) AS n ON CONFLICT DO NOTHING;
COMMIT;
