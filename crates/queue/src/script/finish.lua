-- ACK: ends a leased job, and its message with the last one; queues notices in the same step.
-- With several jobs there is `open`. body: the chunks of a body that has few; chunks: how many they are, where they are
-- more. remember: 1 or 0, does it need a tombstone. counted, login: if it counts for one.
-- notice_octets: the records.
-- Answers LAST (the message has ended), OK, STALE (the lease is not ours), NOBODY (chunks of the notices are missing).
local now
if notice_ids[1] then
  if not redis.call('ZSCORE', lease, member) then return 'STALE' end
  if missing(notice_chunks) > 0 then return 'NOBODY' end
  now = clock()
end
local last = true
if redis.call('ZREM', lease, member) == 0 then return 'STALE' end
if open[1] then
  redis.call('SREM', open[1], job)
  last = redis.call('EXISTS', open[1]) == 0
  if not last then redis.call('DECRBY', extra, 1) end
end
if last then
  redis.call('UNLINK', record, state)
  for _, chunk in ipairs(body) do redis.call('UNLINK', chunk) end
  discard(garbage, id, chunks)
  redis.call('ZREM', ids, id)
  if remember == '1' then bury(tombstones, id) end
  if counted[1] then uncount(counted[1], login[1], 1) end
else
  redis.call('UNLINK', state)
end
keep(notice_chunks)
for i, notice in ipairs(notice_ids) do
  put(notice_records[i], notice_octets[i], ids, notice)
  wait(notice_waiting[i], notice .. '.0', due, notice_destinations[i], now)
end
return last and 'LAST' or 'OK'
