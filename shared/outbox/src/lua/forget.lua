-- Forgets batches of a partition.
-- KEYS: state of the partition. ARGV: token, names of the batches.
-- Answers: 1, or 0 when the partition is held under another token.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return 1
