-- PARK: no job of a destination is offered or claimed for a while.
-- 0 ms: it rests no longer; what waits is due by its own time, which the next claim sets right.
-- KEYS: due, back-off. ARGV: destination, ms.
-- Answers 1, or 0 if nothing waits for it.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if ARGV[2] == '0' then
  if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then redis.call('ZADD', KEYS[1], 'XX', clock(), ARGV[1]) end
  return 1
end
local at = clock() + ARGV[2]
local old = redis.call('HGET', KEYS[2], ARGV[1])
if old then at = math.max(at, tonumber(old)) end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', at))
redis.call('ZADD', KEYS[1], 'XX', at, ARGV[1])
return 1
