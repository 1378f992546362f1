-- Sets the mark, then counts the live sessions the observation hits; takes none of them.
-- KEYS: index, denied
-- ARGV: idle, gate, character, mark field, observed_at, TTL of marks
local observed_at = tonumber(ARGV[5])
set_mark(KEYS[2], ARGV[4], observed_at, ARGV[6])
local hits = 0
for _, session in ipairs((scan(KEYS[1], clock(), tonumber(ARGV[1]), true))) do
  if is_hit(session, ARGV[2], ARGV[3], observed_at) then hits = hits + 1 end
end
return hits
