-- The live sessions of an account, youngest first; dead ones are removed.
-- KEYS: index
-- ARGV: idle, most sessions
local live, dead = scan(KEYS[1], clock(), tonumber(ARGV[1]))
for _, hash in ipairs(dead) do drop(KEYS[1], hash) end
table.sort(live, function(a, b) return (number(a.created_at) or 0) > (number(b.created_at) or 0) end)
local rows = {}
for i = 1, math.min(#live, tonumber(ARGV[2])) do rows[i] = row(live[i]) end
return rows
