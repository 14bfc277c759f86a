-- FLUSH: makes waiting jobs of one destination due now and ends its back-off. No jobs named: any, up to the limit.
-- Answers how many jobs were moved.
local now = clock()
local later = {}
if #jobs == 0 then
  later = redis.call('ZRANGEBYSCORE', waiting, '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, limit)
else
  for _, job in ipairs(jobs) do
    local at = redis.call('ZSCORE', waiting, job)
    if at and tonumber(at) > now then later[#later + 1] = job end
  end
end
local some = redis.call('EXISTS', waiting) == 1

redis.call('HDEL', back_off, destination)
for _, job in ipairs(later) do redis.call('ZADD', waiting, 'XX', now, job) end
if some then redis.call('ZADD', due, 'LT', now, destination) end
return #later
