-- SUSPECT: a worker begins the attempt of a job that was taken back before.
-- Answers 1, or 0: the lease is not ours.
if not redis.call('ZSCORE', lease, member) then return 0 end
redis.call('ZADD', suspects, clock(), member)
redis.call('PEXPIRE', suspects, 86400000)
return 1
