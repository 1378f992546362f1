-- Leaves a ticket that stands for a live session.
-- KEYS: index, denied, ticket
-- ARGV: idle, hash of the session, TTL of the ticket
-- Reply: 1, or 0 without such a session.
local session = touch(KEYS[1], KEYS[2], ARGV[2], clock(), tonumber(ARGV[1]))
if not session then return 0 end
redis.call('SET', KEYS[3], session.hash, 'PX', ARGV[3])
return 1
