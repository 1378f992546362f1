-- Reads entries of the stream without their payloads, which may be a thousand times as large.
-- KEYS: stream. ARGV: XRANGE or XREVRANGE, where to begin, where to end.
-- Answers: of each entry its id and, where it has the fields of an event, partition, n, seq, event_id, aggregate_type and
-- aggregate_id. At most a thousand entries, and no further ones after a megabyte: Redis does nothing else meanwhile.
local AT_A_TIME, MOST, MOST_BYTES = 8, 1000, 1024 * 1024
local from, bytes, answer = ARGV[2], 0, {}
while #answer < MOST and bytes < MOST_BYTES do
  local entries = redis.call(ARGV[1], KEYS[1], from, ARGV[3], 'COUNT', AT_A_TIME)
  for _, entry in ipairs(entries) do
    local id, values = entry[1], entry[2]
    local fields = {}
    for i = 1, #values, 2 do
      fields[values[i]] = values[i + 1]
      bytes = bytes + #values[i + 1]
    end
    -- A list ends at its first nil.
    table.insert(answer, { id, fields.partition, fields.n, fields.seq, fields.event_id, fields.aggregate_type, fields.aggregate_id })
    from = '(' .. id
  end
  if #entries < AT_A_TIME then
    break
  end
end
return answer
