-- RATE: a bucket of tokens that come back one at a time (GCRA). It is full at first.
-- KEYS: the bucket: the time in ms at which it will be full again. There is no key for a full one.
-- ARGV: tokens to take (0: look only), ms until a token is back, tokens of a full bucket
-- Answers for how many ms the bucket is empty still; 0: there is a token.
local now, interval = clock(), tonumber(ARGV[2])
local span = interval * ARGV[3]
local full = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + span)
if ARGV[1] ~= '0' then
  full = math.min(full + ARGV[1] * interval, now + span)
  redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now))
end
return math.max(0, math.ceil(full + interval - span - now))
