-- DEFER and RELEASE: a leased job goes back to its queue, or with `held` is held until the end of its life; queues notices
-- in the same step.
-- delay: in ms. left: its new state ('' leaves the old one). rest: the back-off in ms (0: none).
-- Answers OK, STALE (the lease is not ours), NOBODY (chunks of the notices are missing),
-- ABORT (an operator wants it deleted: nothing was done, finish it instead).
if not redis.call('ZSCORE', lease, member) then return 'STALE' end
local old = redis.call('GET', state)
if old and string.sub(old, 1, 1) == 'A' then return 'ABORT' end
if missing(notice_chunks) > 0 then return 'NOBODY' end
local now = clock()
local at, ends = now + delay, tonumber(expires)
if ends > now and ends < at then at = ends end
rest = tonumber(rest)

redis.call('ZREM', lease, member)
if left ~= '' then redis.call('SET', state, '0' .. left) end
if held[1] then redis.call('ZADD', held[1], ends, job) else redis.call('ZADD', waiting, at, job) end
local head = rest > 0 and redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2]
if head then
  redis.call('HSET', back_off, destination, now + rest)
  redis.call('ZADD', due, math.max(now + rest, tonumber(head)), destination)
elseif not held[1] then
  redis.call('ZADD', due, 'LT', at, destination)
end
keep(notice_chunks)
for i, notice in ipairs(notice_ids) do
  put(notice_records[i], notice_octets[i], ids, notice)
  wait(notice_waiting[i], notice .. '.0', due, notice_destinations[i], now)
end
return 'OK'
