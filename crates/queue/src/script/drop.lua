-- DROP: ends some jobs of a message with several, unless it is all that are open. Leased ones are marked, so that they end
-- with the attempt that is under way. numbers: of the jobs. act: what to note.
-- Answers ALL (nothing was done: delete the message), GONE (none of them is open), LEASED (one of them), REMOVED.
local free, leased = {}, {}
for i, number in ipairs(numbers) do
  if redis.call('SISMEMBER', open, number) == 1 then
    local job = id .. '.' .. number
    local idle = redis.call('ZSCORE', waiting[i], job) or redis.call('ZSCORE', held, job)
    local list = idle and free or leased
    list[#list + 1] = i
  end
end
if #free + #leased == 0 then return 'GONE' end
if #free + #leased == redis.call('SCARD', open) then return 'ALL' end

for _, i in ipairs(free) do
  local job = id .. '.' .. numbers[i]
  redis.call('ZREM', waiting[i], job)
  redis.call('ZREM', held, job)
  redis.call('UNLINK', states[i])
  if redis.call('EXISTS', waiting[i]) == 0 then
    redis.call('ZREM', due, destinations[i])
    redis.call('HDEL', back_off, destinations[i])
  end
  redis.call('SREM', open, numbers[i])
  redis.call('DECRBY', extra, 1)
end
for _, i in ipairs(leased) do
  local state = redis.call('GET', states[i]) or '0'
  redis.call('SET', states[i], 'A' .. string.sub(state, 2))
end
note(acts, '0', act)
return #leased > 0 and 'LEASED' or 'REMOVED'
