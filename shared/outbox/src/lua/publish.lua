-- Publishes a batch: numbers its events without a gap, appends them, and remembers them until their deletion is confirmed.
-- Nothing but the last lines changes anything before the first append: where Redis is full, read-only or the stream is of
-- another type, that one fails and nothing has happened.
-- KEYS: stream, state of the partition.
-- ARGV: token, epoch, batch, partition, MAXLEN or '', the events' seqs packed, count of confirmed batches, their names, and
-- eight fields an event.
-- Answers: number of the last event.
local stream, state = KEYS[1], KEYS[2]
local known = redis.call('HMGET', state, 'token', 'epoch', 'batch', 'n')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then
  return redis.error_reply('FENCED partition is held under token ' .. tostring(known[1]))
end
local batch, n = tonumber(known[3]), tonumber(known[4])
local number = tonumber(ARGV[3])
if number == batch then
  return n
end
if number ~= batch + 1 then
  return redis.error_reply('GAP batch ' .. ARGV[3] .. ' follows ' .. known[3])
end
local confirmed = tonumber(ARGV[7])
-- Redis itself would print the number as a floating point one, at some cost.
for i = 8 + confirmed, #ARGV, 8 do
  n = n + 1
  redis.call('XADD', stream, '*', 'seq', ARGV[i], 'n', string.format('%d', n), 'partition', ARGV[4], 'event_id', ARGV[i + 1],
    'event_type', ARGV[i + 2], 'aggregate_type', ARGV[i + 3], 'aggregate_id', ARGV[i + 4], 'brand_id', ARGV[i + 5],
    'occurred_at', ARGV[i + 6], 'payload', ARGV[i + 7])
end
redis.call('HSET', state, 'batch', ARGV[3], 'n', string.format('%d', n), 'b:' .. ARGV[2] .. ':' .. ARGV[3], ARGV[6])
for i = 8, 7 + confirmed do
  redis.call('HDEL', state, ARGV[i])
end
if ARGV[5] ~= '' then
  redis.call('XTRIM', stream, 'MAXLEN', '~', ARGV[5])
end
return n
