-- WIDEN: says how many partitions there are, never fewer than anybody has said before. id: of the queue.
local found = tonumber(redis.call('HGET', registry, 'partitions') or 0)
redis.call('HSET', registry, 'id', id, 'partitions', string.format('%.0f', math.max(found, tonumber(partitions))))
return 'OK'
