-- Opens a session unless a mark is younger than its approval.
-- KEYS: index, denied
-- ARGV: idle, absolute, most sessions, hash, account, brand, character or '', approved_at, client type, role
-- Reply: the refusing mark, or nil when the session is open.
local index, denied = KEYS[1], KEYS[2]
local idle, absolute, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local mark = mark_against(denied, ARGV[7], tonumber(ARGV[8]))
if mark then return mark end

-- At the limit the session unseen for longest makes room, so that no step ever has an unbounded account before it.
local now = clock()
if redis.call('ZCARD', index) >= most then
  local live, dead = scan(index, now, idle)
  for _, hash in ipairs(dead) do drop(index, hash) end
  table.sort(live, function(a, b) return (number(a.last_seen_at) or 0) < (number(b.last_seen_at) or 0) end)
  for i = 1, #live - most + 1 do drop(index, live[i].hash) end
end

local key = session_key(index, ARGV[4])
redis.call('HSET', key,
  'account_id', ARGV[5], 'brand_id', ARGV[6], 'character_id', ARGV[7], 'approved_at', ARGV[8],
  'created_at', text(now), 'last_seen_at', text(now), 'expires_at', text(now + absolute),
  'client_type', ARGV[9], 'role', ARGV[10])
redis.call('PEXPIRE', key, text(math.min(idle, absolute)))
enter(index, ARGV[4], now + absolute, now)
return nil
