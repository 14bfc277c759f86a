-- RELEASE: held jobs are due now, and nothing is counted against them any longer. Or only (only_over: 1) those whose
-- message's life is over; the others are looked at again when it is.
-- Answers how many wait again.
local now, moved = clock(), 0
for i, job in ipairs(jobs) do
  if redis.call('ZSCORE', held, job) then
    if only_over == '1' and tonumber(ends[i]) > now then
      redis.call('ZADD', held, 'XX', ends[i], job)
    else
      local old = redis.call('GET', states[i])
      redis.call('ZREM', held, job)
      if old then redis.call('SET', states[i], '0' .. string.sub(old, 2)) end
      redis.call('ZADD', waiting[i], now, job)
      redis.call('ZADD', due, 'LT', now, destinations[i])
      moved = moved + 1
    end
  end
end
return moved
