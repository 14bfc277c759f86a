-- CLAIM: leases due jobs of one destination; one that went silent in an attempt is leased alone. The same token
-- gets the same jobs again when it says that it repeats.
-- term: of the lease, in ms. repeated: 1 or 0.
-- Answers { TIME in ms, name of a job… }.
limit = tonumber(limit)
local suffix = ' ' .. token .. ' ' .. destination
local now = clock()
local answer, leases = { now }, {}
if repeated == '1' then
  for _, member in ipairs(redis.call('ZRANGE', lease, 0, -1)) do
    if string.sub(member, -#suffix) == suffix then answer[#answer + 1] = string.sub(member, 1, -#suffix - 1) end
  end
  if #answer > 1 then return answer end
end
local until_ = redis.call('HGET', back_off, destination)
if until_ and tonumber(until_) > now then
  redis.call('ZADD', due, 'XX', until_, destination)
  return answer
end
local head = redis.call('ZRANGE', waiting, 0, limit, 'WITHSCORES')
local wary, alone = redis.call('EXISTS', suspects) == 1, false
local next_
for i = 1, #head, 2 do
  local suspect = wary and redis.call('ZSCORE', suspects, head[i])
  if tonumber(head[i + 1]) > now or #answer > limit or alone or suspect and #answer > 1 then
    next_ = head[i + 1]
    break
  end
  alone = suspect
  answer[#answer + 1] = head[i]
  leases[#leases + 1] = now + term
  leases[#leases + 1] = head[i] .. suffix
end
if until_ then redis.call('HDEL', back_off, destination) end
if #answer > 1 then
  redis.call('ZREMRANGEBYRANK', waiting, 0, #answer - 2)
  redis.call('ZADD', lease, unpack(leases))
end
if not next_ then
  redis.call('ZREM', due, destination)
else
  -- Now at the earliest: behind every destination that was due before.
  redis.call('ZADD', due, math.max(now, tonumber(next_)), destination)
end
return answer
