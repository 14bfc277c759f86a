-- ENQ: queues a message with all its jobs, or does nothing. No allow-oom: this is what a full Redis refuses.
-- KEYS: record, tombstones, ids, due, w:<destination>…, with several jobs: open, extra; chunk…
-- ARGV: id, arrived, number of jobs, record, destination…
-- Answers OK, DUP (this very message is queued), DONE (it was, and is over), CONFLICT (another has its id),
-- LATE (arrived is more than a minute off), NOBODY (chunks are missing).
local id, jobs, record = ARGV[1], tonumber(ARGV[3]), ARGV[4]
if redis.call('SISMEMBER', KEYS[2], id) == 1 then return 'DONE' end
if redis.call('EXISTS', KEYS[1]) == 1 then
  -- Version and stamp: equal for a repetition, different for everybody else.
  if redis.call('GETRANGE', KEYS[1], 0, 8) == string.sub(record, 1, 9) then return 'DUP' end
  return 'CONFLICT'
end
local now = clock()
if math.abs(now - tonumber(ARGV[2])) > 60000 then return 'LATE' end
local chunk = 5 + jobs
if jobs > 1 then chunk = chunk + 2 end
local chunks = #KEYS - chunk + 1
if missing(chunk, chunks) > 0 then return 'NOBODY' end

put(KEYS[1], KEYS[3], KEYS[4], id, record, 5, 5, jobs, chunk, chunks, now)
if jobs > 1 then
  local open = KEYS[5 + jobs]
  for i = 0, jobs - 1 do redis.call('SADD', open, i) end
  redis.call('INCRBY', KEYS[6 + jobs], jobs - 1)
end
return 'OK'
