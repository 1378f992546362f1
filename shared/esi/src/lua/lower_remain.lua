-- Puts up ARGV[1] errors left for ARGV[2] ms, unless fewer are left in the same window: two ends of a window that differ
-- by no more than ARGV[3] ms are the same.
local remain = tonumber(redis.call('GET', KEYS[1]))
local left = redis.call('PTTL', KEYS[1])
if not remain or tonumber(ARGV[1]) < remain or tonumber(ARGV[2]) > left + tonumber(ARGV[3]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
