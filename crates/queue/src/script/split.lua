-- SPLIT: some recipients of a job that waits or is held become a job of their own, in the same place.
-- was: the record as it was read, octets: as it shall be; the same for the state, which may be empty. number: the new job's.
-- Answers OK, CHANGED (record or state are no longer what was read), LEASED (it neither waits nor is held).
if redis.call('GET', record) ~= was then return 'CHANGED' end
if (redis.call('GET', state) or '') ~= was_state then return 'CHANGED' end
local old, new = id .. '.' .. job, id .. '.' .. number
local waits, holds = redis.call('ZSCORE', waiting, old), redis.call('ZSCORE', held, old)
if not waits and not holds then return 'LEASED' end

redis.call('SET', record, octets)
if redis.call('EXISTS', open) == 0 then redis.call('SADD', open, job) end
redis.call('SADD', open, number)
redis.call('INCRBY', extra, 1)
if was_state ~= '' then
  redis.call('SET', state, state_octets)
  redis.call('SET', new_state, new_state_octets)
end
if waits then redis.call('ZADD', waiting, waits, new) else redis.call('ZADD', held, holds, new) end
return 'OK'
