-- The live sessions that act as a character. Reads only.
-- KEYS: index
-- ARGV: idle, character, most sessions
local rows = {}
for _, session in ipairs((scan(KEYS[1], clock(), tonumber(ARGV[1]), true))) do
  if string.lower(session.character_id or '') == ARGV[2] and #rows < tonumber(ARGV[3]) then
    rows[#rows + 1] = row(session)
  end
end
return rows
