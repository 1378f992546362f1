-- Takes a partition over. From here on nobody with an older token, and no batch from before, is let in.
-- KEYS: state of the partition. ARGV: token, number of the last event that PostgreSQL acknowledged.
-- Answers: epoch of the batches to come, number of the last event here, then name and events of each batch in flight.
local state = KEYS[1]
local known = redis.call('HMGET', state, 'token', 'n')
if known[1] and tonumber(known[1]) > tonumber(ARGV[1]) then
  return redis.error_reply('FENCED partition is held under token ' .. known[1])
end
local last, acknowledged = tonumber(known[2] or '0'), tonumber(ARGV[2])
local epoch = redis.call('HINCRBY', state, 'epoch', 1)
redis.call('HSET', state, 'token', ARGV[1], 'batch', 0, 'n', string.format('%.0f', math.max(last, acknowledged)))
local answer = { epoch, last }
local fields = redis.call('HGETALL', state)
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 2) == 'b:' then
    table.insert(answer, fields[i])
    table.insert(answer, fields[i + 1])
  end
end
return answer
