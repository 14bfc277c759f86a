-- RECLAIM: takes expired leases back. The first time a job is under suspicion, and nothing more: it may have waited behind
-- another. From then on workers say when they begin it (SUSPECT), and each time that its attempt had begun counts: it is
-- claimed alone and waits longer, each for a time of its own, so that those who went silent together do not begin together
-- again; at five it is poison and is held. term: of a lease, in ms.
-- Answers for each: 0 (nothing to do), 1 (waits again), 2 (held), 3 (an operator wants it deleted: finish it instead).
local ends = redis.call('ZMSCORE', lease, unpack(members))
local now = clock()
local rests = { 0, term / 4, term, term * 4 }
local answer = {}
for i, member in ipairs(members) do
  answer[i] = 0
  if ends[i] and tonumber(ends[i]) <= now then
    local state = redis.call('GET', states[i]) or '0'
    local count = string.sub(state, 1, 1)
    if count == 'A' then
      answer[i] = 3
    else
      count = tonumber(count)
      local begun = redis.call('ZREM', suspects, member) == 1
      if count == 0 or begun then count = count + 1 end
      redis.call('ZREM', lease, member)
      redis.call('SET', states[i], count .. string.sub(state, 2))
      if count >= 5 then
        redis.call('ZREM', suspects, jobs[i])
        redis.call('ZADD', held, now, jobs[i])
        answer[i] = 2
      else
        local spread = 0.5 + tonumber(string.sub(redis.sha1hex(jobs[i] .. count), 1, 4), 16) / 65536
        local at = now + math.floor(rests[count] * spread)
        if count > 1 then
          redis.call('ZREMRANGEBYSCORE', suspects, '-inf', now - 86400000)
          redis.call('ZADD', suspects, now, jobs[i])
          redis.call('PEXPIRE', suspects, 86400000)
        end
        redis.call('ZADD', waiting[i], at, jobs[i])
        redis.call('ZADD', due, 'LT', at, destinations[i])
        answer[i] = 1
      end
    end
  end
end
return answer
