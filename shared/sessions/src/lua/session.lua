-- Part of every step: what a session is and which sessions of an account are alive.
--
-- KEYS[1] of every step is the account's index, `sess:{<account id>}:index`. Its members name the sessions, and
-- their keys are derived from it: same hash tag, same cluster slot.

local FIELDS = {
  'account_id', 'brand_id', 'character_id', 'approved_at', 'created_at',
  'last_seen_at', 'expires_at', 'client_type', 'role',
}

-- Milliseconds since the epoch by this server, the only clock expiry is measured by.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number of at most 14 digits, or nil: JSON keeps no more of them here, and neither it nor a reply can hold the inf
-- and nan that parse as Lua numbers.
local function number(text)
  local n = tonumber(text)
  if n and n > -1e14 and n < 1e14 then return math.floor(n) end
  return nil
end

local function text(n)
  return string.format('%.0f', n)
end

-- Members that would name another key of the account are no sessions, whoever added them.
local function is_session_name(hash)
  return hash ~= 'index' and hash ~= 'denied' and not string.find(hash, ':', 1, true)
end

local function session_key(index, hash)
  return string.sub(index, 1, -6) .. hash
end

-- The first of KEYS that is there and of another type than named here in its place, or nil. A step that raises fails
-- the whole pipeline it is part of; one that asks here first spoils nothing but itself.
local function misfit(types)
  for i, wanted in ipairs(types) do
    local found = redis.call('TYPE', KEYS[i]).ok
    if found ~= 'none' and found ~= wanted then return KEYS[i] end
  end
  return nil
end

-- The session, or nil where it is missing, of another type, or past its absolute end.
local function read(index, hash, now)
  if not is_session_name(hash) then return nil end
  local key = session_key(index, hash)
  local values = redis.pcall('HMGET', key, unpack(FIELDS))
  if values.err then return nil end
  local session = { hash = hash, key = key }
  for i, field in ipairs(FIELDS) do session[field] = values[i] end
  local expires_at = number(session.expires_at)
  if not expires_at or expires_at <= now then return nil end
  return session
end

local function is_idle(session, now, idle)
  local seen = number(session.last_seen_at) or number(session.created_at) or 0
  return seen + idle <= now
end

-- Live sessions and the names of dead ones. Reads only.
--
-- Without `idle` every session before its absolute end is live. Whoever takes, or looks for what to take, passes none:
-- another program's `idle` may be longer, and a session overlooked here would outlive its access.
local function scan(index, now, idle)
  local live, dead = {}, {}
  for _, hash in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local session = read(index, hash, now)
    if session and not (idle and is_idle(session, now, idle)) then
      live[#live + 1] = session
    else
      dead[#dead + 1] = hash
    end
  end
  return live, dead
end

local function drop(index, hash)
  if is_session_name(hash) then redis.call('DEL', session_key(index, hash)) end
  redis.call('ZREM', index, hash)
end

-- Enters the session in the index, which lives as long as its longest session. PTTL: -2 no key, -1 no end.
local function enter(index, hash, expires_at, now)
  local left = redis.call('PTTL', index)
  redis.call('ZADD', index, text(expires_at), hash)
  if left ~= -1 and left < expires_at - now then redis.call('PEXPIREAT', index, text(expires_at)) end
end

-- The session as a reply: its hash, then FIELDS in order (nil where missing).
local function row(session)
  local reply = { session.hash }
  for i, field in ipairs(FIELDS) do reply[i + 1] = session[field] end
  return reply
end
