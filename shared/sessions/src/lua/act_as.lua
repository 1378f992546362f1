-- Changes the character a session acts as, unless a mark is younger than the approval.
-- KEYS: index, denied
-- ARGV: idle, hash, character or '', approved_at
-- Reply: nil without such a session; {mark, nil} when refused; {0, session} when done.
local session = touch(KEYS[1], KEYS[2], ARGV[2], clock(), tonumber(ARGV[1]))
if not session then return nil end

local character, approved_at = ARGV[3], tonumber(ARGV[4])
local mark = mark_against(KEYS[2], character, approved_at)
if mark then return { mark, false } end

-- Two steps to the same character may arrive in the wrong order: the younger approval stands.
if acting_as(session) == character then
  approved_at = math.max(approved_at, approval(session))
end
session.character_id = character
session.approved_at = text(approved_at)
redis.call('HSET', session.key, 'character_id', character, 'approved_at', session.approved_at)
return { 0, row(session) }
