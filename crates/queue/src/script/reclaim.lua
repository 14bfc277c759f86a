-- RECLAIM: takes expired leases back. A job that was taken back five times in a row is poison and is held.
-- KEYS: lease, due, held, then for each job: state, w:<destination>.
-- ARGV: for each job: lease member, job, destination.
-- Answers for each: 0 (nothing to do), 1 (waits again), 2 (held), 3 (an operator wants it deleted: finish it instead).
local members = {}
for i = 1, #ARGV, 3 do members[#members + 1] = ARGV[i] end
local ends = redis.call('ZMSCORE', KEYS[1], unpack(members))
local now = clock()
local answer = {}
for i, member in ipairs(members) do
  answer[i] = 0
  if ends[i] and tonumber(ends[i]) <= now then
    local state, job = redis.call('GET', KEYS[2 + 2 * i]) or '0', ARGV[3 * i - 1]
    local count = string.sub(state, 1, 1)
    if count == 'A' then
      answer[i] = 3
    else
      count = tonumber(count) + 1
      redis.call('ZREM', KEYS[1], member)
      redis.call('SET', KEYS[2 + 2 * i], count .. string.sub(state, 2))
      if count >= 5 then
        redis.call('ZADD', KEYS[3], now, job)
        answer[i] = 2
      else
        redis.call('ZADD', KEYS[3 + 2 * i], now, job)
        redis.call('ZADD', KEYS[2], 'LT', now, ARGV[3 * i])
        answer[i] = 1
      end
    end
  end
end
return answer
