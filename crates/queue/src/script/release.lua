-- RELEASE: held jobs are due now, and nothing is counted against them any longer. Or only those whose message's life is
-- over; the others are looked at again when it is.
-- KEYS: held, due, then for each job: state, w:<destination>.
-- ARGV: only what is over (1 or 0), then for each job: job, destination, end of its life.
-- Answers how many wait again.
local held, due, over = KEYS[1], KEYS[2], ARGV[1] == '1'
local now, moved = clock(), 0
for i = 1, (#KEYS - 2) / 2 do
  local state, waiting = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
  local job, destination, expires = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if redis.call('ZSCORE', held, job) then
    if over and tonumber(expires) > now then
      redis.call('ZADD', held, 'XX', expires, job)
    else
      local old = redis.call('GET', state)
      redis.call('ZREM', held, job)
      if old then redis.call('SET', state, '0' .. string.sub(old, 2)) end
      redis.call('ZADD', waiting, now, job)
      redis.call('ZADD', due, 'LT', now, destination)
      moved = moved + 1
    end
  end
end
return moved
