-- How many live sessions an observation would hit. Reads only.
-- KEYS: index
-- ARGV: idle, gate, character, observed_at
local hits = 0
for _, session in ipairs((scan(KEYS[1], clock(), tonumber(ARGV[1]), true))) do
  if is_hit(session, ARGV[2], ARGV[3], tonumber(ARGV[4])) then hits = hits + 1 end
end
return hits
