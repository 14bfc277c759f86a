-- DEFER and RELEASE: a leased job goes back to its queue; queues a notice in the same step.
-- KEYS: lease, state, w:<destination>, due, back-off,
--   with a notice: its record, ids, its w:<destination>, its chunk…
-- ARGV: lease member, job, destination, delay in ms, expiry, state ('' leaves it), back-off in ms (0: none),
--   with a notice: its id, its record, its destination, its number of chunks
-- Answers OK, STALE (the lease is not ours), NOBODY (chunks of the notice are missing),
-- ABORT (an operator wants it deleted: nothing was done, finish it instead).
local destination = ARGV[3]
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'STALE' end
local old = redis.call('GET', KEYS[2])
if old and string.sub(old, 1, 1) == 'A' then return 'ABORT' end
if ARGV[8] and missing(9, tonumber(ARGV[11])) > 0 then return 'NOBODY' end
local now = clock()
local at, expires = now + ARGV[4], tonumber(ARGV[5])
if expires > now and expires < at then at = expires end
local back_off = tonumber(ARGV[7])

redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[6] ~= '' then redis.call('SET', KEYS[2], '0' .. ARGV[6]) end
redis.call('ZADD', KEYS[3], at, ARGV[2])
if back_off > 0 then
  local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  redis.call('HSET', KEYS[5], destination, now + back_off)
  redis.call('ZADD', KEYS[4], math.max(now + back_off, tonumber(head[2])), destination)
else
  redis.call('ZADD', KEYS[4], 'LT', at, destination)
end
if ARGV[8] then
  put(KEYS[6], KEYS[7], KEYS[4], ARGV[8], ARGV[9], 8, 10, 1, 9, tonumber(ARGV[11]), now)
end
return 'OK'
