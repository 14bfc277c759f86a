-- OFFLOAD: the body of a message that waits is in the store from now on, and its chunks are gone.
-- was: the record as it was read, octets: as it shall be. waiting: the queues of all its jobs. entry: in the garbage set, as long as
-- nobody clears up what was written to the store.
-- Answers OK, CHANGED (the record is no longer what was read, or not queued), LEASED (a worker has a job of it, and reads
-- the chunks), GIVENUP.
if redis.call('GET', record) ~= was or not redis.call('ZSCORE', ids, id) then return 'CHANGED' end
if not redis.call('ZSCORE', garbage, entry) then return 'GIVENUP' end
local several = redis.call('EXISTS', open) == 1
for i, queue in ipairs(waiting) do
  local job = id .. '.' .. (i - 1)
  local is_open = not several or redis.call('SISMEMBER', open, i - 1) == 1
  if is_open and not redis.call('ZSCORE', queue, job) and not redis.call('ZSCORE', held, job) then return 'LEASED' end
end
redis.call('SET', record, octets)
for _, chunk in ipairs(chunks) do redis.call('UNLINK', chunk) end
redis.call('ZREM', garbage, entry)
return 'OK'
