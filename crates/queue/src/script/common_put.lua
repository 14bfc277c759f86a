-- Queues a message whose record is not there yet; only writes, nothing here can fail.
-- Keys: KEYS[w] and on, w:<destination> of each job; KEYS[b] and on, the chunks. ARGV[d] and on: the destinations.
local function put(record_key, ids, due, id, record, w, d, jobs, b, chunks, now)
  redis.call('SET', record_key, record)
  for i = 0, chunks - 1 do redis.call('PERSIST', KEYS[b + i]) end
  for i = 0, jobs - 1 do
    redis.call('ZADD', KEYS[w + i], now, id .. '.' .. i)
    redis.call('ZADD', due, 'LT', now, ARGV[d + i])
  end
  redis.call('ZADD', ids, 0, id)
end

-- How many of the chunks are missing.
local function missing(b, chunks)
  local absent = 0
  for i = b, b + chunks - 1 do absent = absent + 1 - redis.call('EXISTS', KEYS[i]) end
  return absent
end
