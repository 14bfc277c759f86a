-- ACCOMPANY: leases jobs of one message, each of another destination, as far as they are due. What has gone silent in an attempt
-- stays where it is, and so does what rests. The same token gets the same jobs again when it says that it repeats.
-- counts: of recipients. most: of all recipients. term: of the lease, in ms. repeated: 1 or 0.
-- Answers { TIME in ms, name of a job… }.
local now = clock()
local answer, taken = { now }, {}
local room = tonumber(most)
local wary = redis.call('EXISTS', suspects) == 1
for i, queue in ipairs(waiting) do
  if room == 0 then break end
  local count = tonumber(counts[i])
  local since = redis.call('ZSCORE', queue, jobs[i])
  local until_ = redis.call('HGET', back_off, destinations[i])
  if repeated == '1' and redis.call('ZSCORE', lease, jobs[i] .. ' ' .. token .. ' ' .. destinations[i]) then
    answer[#answer + 1] = jobs[i]
    room = math.max(0, room - count)
  elseif since and tonumber(since) <= now and count <= room and not (until_ and tonumber(until_) > now)
    and not (wary and redis.call('ZSCORE', suspects, jobs[i])) then
    taken[#taken + 1] = i
    room = room - count
  end
end
for _, i in ipairs(taken) do
  redis.call('ZREM', waiting[i], jobs[i])
  redis.call('ZADD', lease, now + term, jobs[i] .. ' ' .. token .. ' ' .. destinations[i])
  if redis.call('EXISTS', waiting[i]) == 0 then redis.call('ZREM', due, destinations[i]) end
  answer[#answer + 1] = jobs[i]
end
return answer
