-- RATE: a bucket of tokens that come back one at a time (GCRA). It is full at first.
-- bucket: the time in ms at which it will be full again; there is no key for a full one.
-- tokens: to take (0: look only). interval: ms until a token is back. size: tokens of a full bucket.
-- Answers for how many ms the bucket is empty still; 0: there is a token.
local now = clock()
interval = tonumber(interval)
local span = interval * size
local full = math.min(math.max(tonumber(redis.call('GET', bucket) or 0), now), now + span)
if tokens ~= '0' then
  full = math.min(full + tokens * interval, now + span)
  redis.call('SET', bucket, string.format('%.3f', full), 'PX', math.ceil(full - now))
end
return math.max(0, math.ceil(full + interval - span - now))
