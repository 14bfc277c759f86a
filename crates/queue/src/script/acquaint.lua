-- ACQUAINT: a login was used from a network.
-- known: networks that it was used from, by when. network: stands for one. life: how long, in ms, one is known.
-- fresh: what was noted within so many ms is not noted again. room: how many are kept, those that were used last.
-- Answers 0 if it was not noted, 1 if it is known, 2 if it is new.
local now = clock()
local seen = tonumber(redis.call('ZSCORE', known, network) or '')
if seen and seen + fresh > now then return 0 end
redis.call('ZADD', known, now, network)
redis.call('ZREMRANGEBYSCORE', known, '-inf', now - life)
redis.call('ZREMRANGEBYRANK', known, 0, -1 - room)
redis.call('PEXPIRE', known, life)
return seen and seen + life > now and 1 or 2
