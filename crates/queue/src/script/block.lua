-- BLOCK: blocks a login, a network or a domain, or changes reason and end of its block, and tells all pods.
-- life: ms; 0: until it is unblocked. Blocks that are over make room first.
-- yields: 1: what holds already stays as it is; 2: it is replaced, and ends no earlier than it would have.
-- Whoever yields is a program, and its value says so.
-- Answers 1; 0: there are too many; 2: it holds already, and this yields.
local now = clock()
forget_over(blocks, ends, now)
local holds = redis.call('HEXISTS', blocks, target) == 1
if holds and yields == '1' then return 2 end
if not holds and redis.call('HLEN', blocks) >= tonumber(room) then return 0 end
local over = tonumber(life) > 0 and now + tonumber(life) or 0
if holds and yields == '2' then
  local was = tonumber(string.match(redis.call('HGET', blocks, target), '^%S+ (%S+)')) or 1
  if was == 0 or over > 0 and was > over then over = was end
end
local value = string.format('%s%.0f %.0f %s', yields == '0' and '' or '+', now, over, reason)
redis.call('HSET', blocks, target, value)
if over > 0 then redis.call('ZADD', ends, over, target) else redis.call('ZREM', ends, target) end
tell(journal, length, 'block', target, value)
return 1
