-- ABORT: deletes a message that nobody is delivering; forbids one that never arrived. With several jobs there is `open`.
-- chunks: how many it has. octets: how long the record was that says so; 0: it does not matter.
-- mark: 1 marks the jobs that are leased, so that they end with the attempt that is under way, and deletes the others; 0 leaves all
-- of them as they are when one is leased.
-- act: what to note of an operator. counted, login: if it counts for one.
-- Answers DONE (it is over already), GONE (it never arrived, and never will, or was deleted before), CHANGED (the record is not what was
-- read any more), LEASED, REMOVED.
-- Beside its tombstone, a message that was deleted has a mark: whoever asks again must not take it for one that was delivered.
local deleted = id .. '!'
if not redis.call('ZSCORE', ids, id) then
  -- A record that no enqueue has followed yet may be there.
  redis.call('UNLINK', record)
  if redis.call('SISMEMBER', tombstones, id) == 1 then
    return redis.call('SISMEMBER', tombstones, deleted) == 1 and 'GONE' or 'DONE'
  end
  bury(tombstones, id)
  redis.call('SADD', tombstones, deleted)
  discard(garbage, id, chunks)
  return 'GONE'
end
if octets ~= '0' and redis.call('STRLEN', record) ~= tonumber(octets) then return 'CHANGED' end
local free, leased = {}, {}
for i, queue in ipairs(waiting) do
  local job = id .. '.' .. (i - 1)
  if not open[1] or redis.call('SISMEMBER', open[1], i - 1) == 1 then
    if redis.call('ZSCORE', queue, job) or redis.call('ZSCORE', held, job) then
      free[#free + 1] = i
    else
      leased[#leased + 1] = i
    end
  end
end
if mark == '0' and #leased > 0 then return 'LEASED' end

for _, i in ipairs(free) do
  local job, queue = id .. '.' .. (i - 1), waiting[i]
  redis.call('ZREM', queue, job)
  redis.call('ZREM', held, job)
  redis.call('UNLINK', states[i])
  if redis.call('EXISTS', queue) == 0 then
    redis.call('ZREM', due, destinations[i])
    redis.call('HDEL', back_off, destinations[i])
  end
  if open[1] then
    redis.call('SREM', open[1], i - 1)
    if redis.call('EXISTS', open[1]) == 1 then redis.call('DECRBY', extra, 1) end
  end
end
if #leased > 0 then
  for _, i in ipairs(leased) do
    local state = redis.call('GET', states[i]) or '0'
    redis.call('SET', states[i], 'A' .. string.sub(state, 2))
  end
  note(acts, '0', act)
  return 'LEASED'
end
redis.call('UNLINK', record)
discard(garbage, id, chunks)
redis.call('ZREM', ids, id)
bury(tombstones, id)
redis.call('SADD', tombstones, deleted)
if counted[1] then uncount(counted[1], login[1], 1) end
note(acts, '1', act)
return 'REMOVED'
