-- Blocks that are over make room.
local function forget_over(all, by_end, until_then)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', by_end, '-inf', until_then, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', by_end, name)
    redis.call('HDEL', all, name)
  end
end
