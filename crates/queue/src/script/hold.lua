-- HOLD: waiting jobs leave their queues until they are released, or until their message's life is over.
-- Answers how many were moved.
local moved = 0
for i, queue in ipairs(waiting) do
  if redis.call('ZREM', queue, jobs[i]) == 1 then
    redis.call('ZADD', held, ends[i], jobs[i])
    moved = moved + 1
    if redis.call('EXISTS', queue) == 0 then
      redis.call('ZREM', due, destinations[i])
      redis.call('HDEL', back_off, destinations[i])
    end
  end
end
return moved
