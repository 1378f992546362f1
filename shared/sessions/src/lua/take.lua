-- Takes the sessions an observation hits, leaves the mark and a receipt of what was taken.
-- KEYS: index, denied, receipt
-- ARGV: idle, gate, character, mark field, observed_at, TTL of marks, TTL of the receipt
-- Reply: {1 if the receipt was already there, receipt as JSON}
local index, denied, receipt_key = KEYS[1], KEYS[2], KEYS[3]
local gate, character, observed_at = ARGV[2], ARGV[3], tonumber(ARGV[5])

local earlier = redis.call('GET', receipt_key)
if earlier then return { 1, earlier } end

local hits, removed = {}, {}
for _, session in ipairs((scan(index, clock(), tonumber(ARGV[1]), true))) do
  if is_hit(session, gate, character, observed_at) then
    hits[#hits + 1] = session
    removed[#removed + 1] = {
      hash = session.hash,
      character_id = session.character_id or '',
      client_type = session.client_type or '',
      approved_at = number(session.approved_at) or 0,
      created_at = number(session.created_at) or 0,
    }
  end
end

-- An empty table would be encoded as an object.
local receipt = #removed == 0 and '[]' or cjson.encode(removed)
redis.call('SET', receipt_key, receipt, 'PX', ARGV[7])
set_mark(denied, ARGV[4], observed_at, ARGV[6])
for _, session in ipairs(hits) do drop(index, session.hash) end
return { 0, receipt }
