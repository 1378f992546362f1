-- Sets the mark, then counts the sessions the observation hits; takes none of them.
-- KEYS: index, denied
-- ARGV: gate, character, mark field, observed_at, TTL of marks
-- Reply: {hits, nil}, or {0, key} where a key is of another type and nothing was changed.
local wrong = misfit({ 'zset', 'hash' })
if wrong then return { 0, wrong } end

local observed_at = tonumber(ARGV[4])
set_mark(KEYS[2], ARGV[3], observed_at, ARGV[5])
local hits = 0
for _, session in ipairs((scan(KEYS[1], clock()))) do
  if is_hit(session, ARGV[1], ARGV[2], observed_at) then hits = hits + 1 end
end
return { hits, false }
