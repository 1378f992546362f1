-- Ends all sessions of an account, or all but one; that one must be live, or nothing ends.
-- KEYS: index
-- ARGV: idle, hash of the session to keep or ''
-- Reply: how many live sessions ended.
local index, kept = KEYS[1], ARGV[2]
local live, dead = scan(index, clock(), tonumber(ARGV[1]))

local found = kept == ''
for _, session in ipairs(live) do found = found or session.hash == kept end
if not found then return 0 end

for _, hash in ipairs(dead) do drop(index, hash) end
local ended = 0
for _, session in ipairs(live) do
  if session.hash ~= kept then
    drop(index, session.hash)
    ended = ended + 1
  end
end
return ended
