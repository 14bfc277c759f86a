-- DROP: ends some jobs of a message with several, unless it is all that are open. Leased ones are marked, so that they end
-- with the attempt that is under way.
-- KEYS: due, held, back-off, open, extra, then for each job: state, w:<destination>. ARGV: id, then for each job: its
--   number, destination.
-- Answers ALL (nothing was done: delete the message), GONE (none of them is open), LEASED (one of them), REMOVED.
local due, held, back_off, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local free, leased = {}, {}
for i = 1, (#ARGV - 1) / 2 do
  if redis.call('SISMEMBER', open, ARGV[2 * i]) == 1 then
    local job = ARGV[1] .. '.' .. ARGV[2 * i]
    local idle = redis.call('ZSCORE', KEYS[5 + 2 * i], job) or redis.call('ZSCORE', held, job)
    local list = idle and free or leased
    list[#list + 1] = i
  end
end
if #free + #leased == 0 then return 'GONE' end
if #free + #leased == redis.call('SCARD', open) then return 'ALL' end

for _, i in ipairs(free) do
  local number, destination, waiting = ARGV[2 * i], ARGV[2 * i + 1], KEYS[5 + 2 * i]
  redis.call('ZREM', waiting, ARGV[1] .. '.' .. number)
  redis.call('ZREM', held, ARGV[1] .. '.' .. number)
  redis.call('UNLINK', KEYS[4 + 2 * i])
  if redis.call('EXISTS', waiting) == 0 then
    redis.call('ZREM', due, destination)
    redis.call('HDEL', back_off, destination)
  end
  redis.call('SREM', open, number)
  redis.call('DECRBY', KEYS[5], 1)
end
for _, i in ipairs(leased) do
  local state = redis.call('GET', KEYS[4 + 2 * i]) or '0'
  redis.call('SET', KEYS[4 + 2 * i], 'A' .. string.sub(state, 2))
end
return #leased > 0 and 'LEASED' or 'REMOVED'
