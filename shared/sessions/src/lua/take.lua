-- Takes the sessions an observation hits, leaves the mark and a receipt of what was taken.
-- KEYS: index, denied, receipt
-- ARGV: gate, character, mark field, observed_at, TTL of marks, TTL of the receipt
-- Reply: {0, receipt as JSON}; {1, receipt} where it was already there; {2, key} where a key is of another type. Only
-- the first changes anything.
local wrong = misfit({ 'zset', 'hash', 'string' })
if wrong then return { 2, wrong } end

local index, denied, receipt_key = KEYS[1], KEYS[2], KEYS[3]
local gate, character, observed_at = ARGV[1], ARGV[2], tonumber(ARGV[4])

local earlier = redis.call('GET', receipt_key)
if earlier then return { 1, earlier } end

local hits, removed = {}, {}
for _, session in ipairs((scan(index, clock()))) do
  if is_hit(session, gate, character, observed_at) then
    hits[#hits + 1] = session
    removed[#removed + 1] = {
      hash = session.hash,
      character_id = session.character_id or '',
      client_type = session.client_type or '',
      approved_at = approval(session),
      created_at = number(session.created_at) or 0,
    }
  end
end

-- An empty table would be encoded as an object.
local receipt = #removed == 0 and '[]' or cjson.encode(removed)
redis.call('SET', receipt_key, receipt, 'PX', ARGV[6])
set_mark(denied, ARGV[3], observed_at, ARGV[5])
for _, session in ipairs(hits) do drop(index, session.hash) end
return { 0, receipt }
