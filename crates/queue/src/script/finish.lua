-- ACK: ends a leased job, and its message with the last one; queues a notice in the same step.
-- KEYS: lease, ids, tombstones, record, state, with several jobs: open, extra; chunk…,
--   with a notice: its record, due, its w:<destination>, its chunk…
-- ARGV: lease member, id, number of the job, several (1 or 0), number of chunks, bury (1 or 0),
--   with a notice: its id, its record, its destination, its number of chunks
-- Answers LAST (the message has ended), OK, STALE (the lease is not ours), NOBODY (chunks of the notice are missing).
local id, chunks = ARGV[2], tonumber(ARGV[5])
local open = 6
local chunk = open
if ARGV[4] == '1' then chunk = open + 2 end
local notice = chunk + chunks
local now
if ARGV[7] then
  if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'STALE' end
  if missing(notice + 3, tonumber(ARGV[10])) > 0 then return 'NOBODY' end
  now = clock()
end
local last = true
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 'STALE' end
if ARGV[4] == '1' then
  redis.call('SREM', KEYS[open], ARGV[3])
  last = redis.call('EXISTS', KEYS[open]) == 0
  if not last then redis.call('DECRBY', KEYS[open + 1], 1) end
end
if last then
  redis.call('UNLINK', KEYS[4], KEYS[5])
  for i = chunk, chunk + chunks - 1 do redis.call('UNLINK', KEYS[i]) end
  redis.call('ZREM', KEYS[2], id)
  if ARGV[6] == '1' then bury(KEYS[3], id) end
else
  redis.call('UNLINK', KEYS[5])
end
if ARGV[7] then
  put(KEYS[notice], KEYS[2], KEYS[notice + 1], ARGV[7], ARGV[8], notice + 2, 9, 1, notice + 3, tonumber(ARGV[10]), now)
end
return last and 'LAST' or 'OK'
