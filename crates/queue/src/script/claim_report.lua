-- CLAIM_REPORT: takes a report that is due; nobody else gets it before the lease is over.
-- pending: the reports by the time in ms at which they are due. lease: ms.
-- Answers its name, or false.
local now = clock()
local report = redis.call('ZRANGE', pending, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
if not report then return false end
redis.call('ZADD', pending, now + tonumber(lease), report)
return report
