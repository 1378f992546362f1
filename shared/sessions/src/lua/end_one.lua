-- Ends one session.
-- KEYS: index
-- ARGV: idle, hash
-- Reply: 1 if it was live, else 0.
local now = clock()
local session = read(KEYS[1], ARGV[2], now)
local was_live = session and not is_idle(session, now, tonumber(ARGV[1]))
drop(KEYS[1], ARGV[2])
return was_live and 1 or 0
