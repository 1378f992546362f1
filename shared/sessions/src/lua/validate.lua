-- The session of a token, marked as seen.
-- KEYS: index, denied
-- ARGV: idle, hash
-- Reply: the session, or nil.
local session = touch(KEYS[1], KEYS[2], ARGV[2], clock(), tonumber(ARGV[1]))
return session and row(session)
