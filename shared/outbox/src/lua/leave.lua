-- Forgets confirmed batches of a partition that its owner gives up.
-- KEYS: state of the partition. ARGV: token, names of the batches.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return #ARGV - 1
