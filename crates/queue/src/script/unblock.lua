-- UNBLOCK: ends a block and tells all pods.
-- Answers 1; 0: there was none.
redis.call('ZREM', ends, target)
local was = redis.call('HDEL', blocks, target)
if was == 1 then tell(journal, length, 'unblock', target, '') end
return was
