-- ABORT: deletes a message that nobody is delivering; forbids one that never arrived. Jobs that are leased are marked,
-- so that they end with the attempt that is under way.
-- KEYS: record, ids, tombstones, due, held, back-off, with several jobs: open, extra; then for each job: state,
--   w:<destination>; chunk…
-- ARGV: id, number of jobs, destination…
-- Answers DONE (it is over already), GONE (it never arrived, and never will), LEASED, REMOVED.
local id, jobs = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 0 then
  if redis.call('SISMEMBER', KEYS[3], id) == 1 then return 'DONE' end
  bury(KEYS[3], id)
  return 'GONE'
end
local first = 7
if jobs > 1 then first = 9 end
local free, leased = {}, {}
for i = 0, jobs - 1 do
  local job = id .. '.' .. i
  if jobs == 1 or redis.call('SISMEMBER', KEYS[7], i) == 1 then
    if redis.call('ZSCORE', KEYS[first + 2 * i + 1], job) or redis.call('ZSCORE', KEYS[5], job) then
      free[#free + 1] = i
    else
      leased[#leased + 1] = i
    end
  end
end

for _, i in ipairs(free) do
  local job, waiting, destination = id .. '.' .. i, KEYS[first + 2 * i + 1], ARGV[3 + i]
  redis.call('ZREM', waiting, job)
  redis.call('ZREM', KEYS[5], job)
  redis.call('UNLINK', KEYS[first + 2 * i])
  if redis.call('EXISTS', waiting) == 0 then
    redis.call('ZREM', KEYS[4], destination)
    redis.call('HDEL', KEYS[6], destination)
  end
  if jobs > 1 then
    redis.call('SREM', KEYS[7], i)
    if redis.call('EXISTS', KEYS[7]) == 1 then redis.call('DECRBY', KEYS[8], 1) end
  end
end
if #leased > 0 then
  for _, i in ipairs(leased) do
    local state = redis.call('GET', KEYS[first + 2 * i]) or '0'
    redis.call('SET', KEYS[first + 2 * i], 'A' .. string.sub(state, 2))
  end
  return 'LEASED'
end
redis.call('UNLINK', KEYS[1])
for i = first + 2 * jobs, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', KEYS[2], id)
bury(KEYS[3], id)
return 'REMOVED'
