-- So many messages of a login are in the queue no longer.
local function uncount(counted, login, messages)
  if redis.call('HINCRBY', counted, login, 0 - messages) < 1 then redis.call('HDEL', counted, login) end
end
