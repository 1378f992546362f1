-- The sessions that act as a character, or all of the account. Reads only.
-- KEYS: index
-- ARGV: character or '*', most sessions
if misfit({ 'zset' }) then return {} end

local rows = {}
for _, session in ipairs((scan(KEYS[1], clock()))) do
  local wanted = ARGV[1] == '*' or acting_as(session) == ARGV[1]
  if wanted and #rows < tonumber(ARGV[2]) then rows[#rows + 1] = row(session) end
end
return rows
