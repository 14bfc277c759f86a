-- FLUSH: makes waiting jobs of one destination due now and ends its back-off. No jobs named: any, up to the limit.
-- Answers how many jobs were moved.
local now = clock()
local later, present = {}, 0
if #jobs == 0 then
  later = redis.call('ZRANGEBYSCORE', waiting, '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, limit)
else
  for _, job in ipairs(jobs) do
    local at = redis.call('ZSCORE', waiting, job)
    if at then present = present + 1 end
    if at and tonumber(at) > now then later[#later + 1] = job end
  end
end
local some = redis.call('EXISTS', waiting) == 1
local until_ = redis.call('HGET', back_off, destination)
local moved = #later
if until_ and tonumber(until_) > now then
  -- What was due and had to rest with its destination is moved as well.
  if #jobs == 0 then moved = moved + redis.call('ZCOUNT', waiting, '-inf', now) else moved = present end
end

redis.call('HDEL', back_off, destination)
for _, job in ipairs(later) do redis.call('ZADD', waiting, 'XX', now, job) end
if some then redis.call('ZADD', due, 'LT', now, destination) end
return moved
