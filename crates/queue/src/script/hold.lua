-- HOLD: waiting jobs leave their queues until they are released, or until their message's life is over.
-- KEYS: held, due, back-off, then for each job: w:<destination>. ARGV: for each job: job, destination, end of its life.
-- Answers how many were moved.
local held, due, back_off = KEYS[1], KEYS[2], KEYS[3]
local moved = 0
for i = 1, #KEYS - 3 do
  local waiting, job, destination = KEYS[3 + i], ARGV[3 * i - 2], ARGV[3 * i - 1]
  if redis.call('ZREM', waiting, job) == 1 then
    redis.call('ZADD', held, ARGV[3 * i], job)
    moved = moved + 1
    if redis.call('EXISTS', waiting) == 0 then
      redis.call('ZREM', due, destination)
      redis.call('HDEL', back_off, destination)
    end
  end
end
return moved
