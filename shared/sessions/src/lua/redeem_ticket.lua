-- Uses a ticket up and returns its session, marked as seen.
-- KEYS: index, denied, ticket
-- ARGV: idle
-- Reply: the session, or nil.
local hash = redis.call('GET', KEYS[3])
if not hash then return nil end
redis.call('DEL', KEYS[3])
local session = touch(KEYS[1], KEYS[2], hash, clock(), tonumber(ARGV[1]))
return session and row(session)
