-- HARD_BOUNCE: a recipient's own server has refused it for good. At the last of so many times it is suppressed, and all pods
-- are told. What holds already stays as it is.
-- bounces: who was refused before, by the time in ms at which that is forgotten: a bucket of times - 1 tokens as in RATE.
-- times: with this one. interval: ms until one of them is forgotten. life: ms. most: who are remembered at a time.
-- Answers 0: counted, or it is suppressed already; 1: it is suppressed from now on; 2: there are too many blocks.
local now = clock()
forget_over(blocks, ends, now)
redis.call('ZREMRANGEBYSCORE', bounces, '-inf', now)
if redis.call('HEXISTS', blocks, target) == 1 then return 0 end
local known = redis.call('ZSCORE', bounces, target)
local forgotten = math.max(tonumber(known or 0), now) + tonumber(interval)
if forgotten <= now + (tonumber(times) - 1) * tonumber(interval) then
  -- Whoever would be forgotten first makes room.
  if not known and redis.call('ZCARD', bounces) >= tonumber(most) then redis.call('ZPOPMIN', bounces) end
  redis.call('ZADD', bounces, string.format('%.0f', forgotten), target)
  return 0
end
if redis.call('HLEN', blocks) >= tonumber(room) then return 2 end
local over = now + tonumber(life)
local value = string.format('+%.0f %.0f %s', now, over, reason)
redis.call('ZREM', bounces, target)
redis.call('HSET', blocks, target, value)
redis.call('ZADD', ends, over, target)
tell(journal, length, 'block', target, value)
return 1
