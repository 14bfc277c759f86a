-- MEND DESTINATION: a destination is in `due` if something waits for it, and only then. With repair (1) that is put right.
-- Answers 0, 1 (nobody would look at what waits), 2 (nothing waits).
local head, at = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES'), redis.call('ZSCORE', due, destination)
if head[1] and not at then
  if repair == '1' then redis.call('ZADD', due, head[2], destination) end
  return 1
end
if at and not head[1] then
  if repair == '1' then redis.call('ZREM', due, destination) end
  return 2
end
return 0
