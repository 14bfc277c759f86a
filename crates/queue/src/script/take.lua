-- TAKE: leases a job that waits or is held, due or not, for an operator. term: of the lease, in ms.
-- Answers 1, or 0 (it is neither, or over).
if redis.call('ZREM', waiting, job) == 1 then
  if redis.call('EXISTS', waiting) == 0 then
    redis.call('ZREM', due, destination)
    redis.call('HDEL', back_off, destination)
  end
elseif redis.call('ZREM', held, job) == 0 then
  return 0
end
redis.call('ZADD', lease, clock() + term, member)
return 1
