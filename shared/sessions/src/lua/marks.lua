-- Part of every step: marks, and which sessions an observation hits.
--
-- A mark is the time of the youngest observation that cost a character (or `*`, the whole account) its sessions.
-- It stands against approvals read before that observation and written after it. Approvals and observations carry
-- the database's time, so they are compared with each other only, never with this server's clock.

-- The younger of the marks for the character and for the account if it is younger than the approval, else nil.
local function mark_against(denied, character, approved_at)
  local mark = number(redis.call('HGET', denied, '*')) or 0
  if character ~= '' then mark = math.max(mark, number(redis.call('HGET', denied, character)) or 0) end
  if mark > approved_at then return mark end
  return nil
end

-- Never lowers a mark: an older observation that arrives late says less than the one already there.
local function set_mark(denied, field, observed_at, ttl)
  local present = number(redis.call('HGET', denied, field))
  if not present or present < observed_at then redis.call('HSET', denied, field, text(observed_at)) end
  redis.call('PEXPIRE', denied, ttl)
end

-- The character a session acts as, or ''; another program may have written it in capitals.
local function acting_as(session)
  return string.lower(session.character_id or '')
end

-- A session without a readable approval counts as approved never.
local function approval(session)
  return number(session.approved_at) or 0
end

local function is_marked(denied, session)
  return mark_against(denied, acting_as(session), approval(session)) ~= nil
end

-- `gate` is `acting` (sessions that act as the character) or `account` (all of them).
local function is_hit(session, gate, character, observed_at)
  if approval(session) >= observed_at then return false end
  return gate == 'account' or acting_as(session) == character
end
