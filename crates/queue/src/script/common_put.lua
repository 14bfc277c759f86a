-- Queueing a message whose record is not there yet; only writes, nothing here can fail.
local function put(record, octets, ids, id)
  redis.call('SET', record, octets)
  redis.call('ZADD', ids, 0, id)
end
