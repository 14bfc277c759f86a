-- RECLAIM: takes expired leases back. A job that was taken back five times in a row is poison and is held.
-- Answers for each: 0 (nothing to do), 1 (waits again), 2 (held), 3 (an operator wants it deleted: finish it instead).
local ends = redis.call('ZMSCORE', lease, unpack(members))
local now = clock()
local answer = {}
for i, member in ipairs(members) do
  answer[i] = 0
  if ends[i] and tonumber(ends[i]) <= now then
    local state = redis.call('GET', states[i]) or '0'
    local count = string.sub(state, 1, 1)
    if count == 'A' then
      answer[i] = 3
    else
      count = tonumber(count) + 1
      redis.call('ZREM', lease, member)
      redis.call('SET', states[i], count .. string.sub(state, 2))
      if count >= 5 then
        redis.call('ZADD', held, now, jobs[i])
        answer[i] = 2
      else
        redis.call('ZADD', waiting[i], now, jobs[i])
        redis.call('ZADD', due, 'LT', now, destinations[i])
        answer[i] = 1
      end
    end
  end
end
return answer
