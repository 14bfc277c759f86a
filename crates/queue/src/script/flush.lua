-- FLUSH: makes waiting jobs of one destination due now and ends its back-off.
-- KEYS: w:<destination>, due, back-off. ARGV: destination, limit, job… (none: any, up to the limit).
-- Answers how many jobs were moved.
local now = clock()
local jobs = {}
if #ARGV == 2 then
  jobs = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf', 'LIMIT', 0, ARGV[2])
else
  for i = 3, #ARGV do
    local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if at and tonumber(at) > now then jobs[#jobs + 1] = ARGV[i] end
  end
end
local some = redis.call('EXISTS', KEYS[1]) == 1

redis.call('HDEL', KEYS[3], ARGV[1])
for _, job in ipairs(jobs) do redis.call('ZADD', KEYS[1], 'XX', now, job) end
if some then redis.call('ZADD', KEYS[2], 'LT', now, ARGV[1]) end
return #jobs
