-- PARK: no job of a destination is offered or claimed for a while (rest, in ms).
-- 0 ms: it rests no longer; what waits is due by its own time, which the next claim sets right.
-- Answers 1, or 0 if nothing waits for it.
if not redis.call('ZSCORE', due, destination) then return 0 end
if rest == '0' then
  if redis.call('HDEL', back_off, destination) == 1 then redis.call('ZADD', due, 'XX', clock(), destination) end
  return 1
end
local at = clock() + rest
local old = redis.call('HGET', back_off, destination)
if old then at = math.max(at, tonumber(old)) end
redis.call('HSET', back_off, destination, string.format('%.0f', at))
redis.call('ZADD', due, 'XX', at, destination)
return 1
