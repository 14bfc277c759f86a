-- BLOCK: blocks a login, a network or a domain, or changes reason and end of its block, and tells all pods.
-- life: ms; 0: until it is unblocked. Blocks that are over make room first.
-- Answers 1; 0: there are too many.
local now = clock()
forget_over(blocks, ends, now)
if redis.call('HEXISTS', blocks, target) == 0 and redis.call('HLEN', blocks) >= tonumber(room) then return 0 end
local over = tonumber(life) > 0 and now + tonumber(life) or 0
local value = string.format('%.0f %.0f %s', now, over, reason)
redis.call('HSET', blocks, target, value)
if over > 0 then redis.call('ZADD', ends, over, target) else redis.call('ZREM', ends, target) end
tell(journal, length, 'block', target, value)
return 1
