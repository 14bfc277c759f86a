-- RATE: a bucket of tokens that come back one at a time (GCRA). It is full at first.
-- bucket: the time in ms at which it will be full again; there is no key for a full one.
-- tokens: to take, as many of them as are there; below 0: to put back. interval: ms until a token is back.
-- size: tokens of a full bucket.
-- Answers how many were taken, and for how many ms the bucket is empty still; 0: there is a token.
local now = clock()
tokens, interval = tonumber(tokens), tonumber(interval)
local span = interval * size
local stored = tonumber(redis.call('GET', bucket) or 0)
local full = math.min(math.max(stored, now), now + span)
-- The bucket's time is kept to a thousandth: a token that is there must not be lost to rounding.
local there = math.floor((now + span - full) / interval + 0.002)
local taken = math.min(tokens, there)
-- What was empty for longer than a bucket lasts now had another size: from here on it fills as this one does.
if taken ~= 0 or stored > full then
  full = math.min(full + taken * interval, now + span)
  if full > now then
    redis.call('SET', bucket, string.format('%.3f', full), 'PX', math.ceil(full - now))
  else
    redis.call('DEL', bucket)
  end
end
return {taken, math.max(0, math.ceil(full + interval - span - now))}
