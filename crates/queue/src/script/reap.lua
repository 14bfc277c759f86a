-- REAP: takes garbage that is due, for one reaper: nobody else gets it within `term` ms.
-- Answers the names.
local now = clock()
local names = redis.call('ZRANGE', garbage, '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, limit)
for _, name in ipairs(names) do redis.call('ZADD', garbage, 'XX', now + term, name) end
return names
