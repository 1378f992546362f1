-- How many sessions an observation would hit. Reads only.
-- KEYS: index
-- ARGV: gate, character, observed_at
if misfit({ 'zset' }) then return 0 end

local hits = 0
for _, session in ipairs((scan(KEYS[1], clock()))) do
  if is_hit(session, ARGV[1], ARGV[2], tonumber(ARGV[3])) then hits = hits + 1 end
end
return hits
