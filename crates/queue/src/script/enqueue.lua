-- ENQ: queues a message with all its jobs, or does nothing. No allow-oom: this is what a full Redis refuses.
-- With several jobs there is `open`. octets: the record.
-- Answers OK, DUP (this very message is queued), DONE (it was, and is over), CONFLICT (another has its id),
-- LATE (arrived is more than a minute off, or it is later than `ends`: whoever asked has said no to the client by now),
-- NOBODY (chunks are missing).
if redis.call('SISMEMBER', tombstones, id) == 1 then return 'DONE' end
if redis.call('EXISTS', record) == 1 then
  -- Version and stamp: equal for a repetition, different for everybody else.
  if redis.call('GETRANGE', record, 0, 8) == string.sub(octets, 1, 9) then return 'DUP' end
  return 'CONFLICT'
end
local now = clock()
if math.abs(now - tonumber(arrived)) > 60000 or now > tonumber(ends) then return 'LATE' end
if missing(chunks) > 0 then return 'NOBODY' end

put(record, octets, ids, id)
keep(chunks)
for i, queue in ipairs(waiting) do wait(queue, id .. '.' .. (i - 1), due, destinations[i], now) end
if open[1] then
  for i = 1, #waiting do redis.call('SADD', open[1], i - 1) end
  redis.call('INCRBY', extra, #waiting - 1)
end
return 'OK'
