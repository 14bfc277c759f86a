-- REAP: takes garbage that is due, for one reaper: nobody else gets it within `term` ms.
-- A body in the store whose message did not come in time (`a`), or that was not moved there in time (`a-` and a number), is
-- garbage as any other (`o`) from then on: the message is refused if it comes now, and the move too.
-- Answers the names.
local now = clock()
local names = redis.call('ZRANGE', garbage, '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, limit)
for i, name in ipairs(names) do
  local id, number = string.match(name, '^(%S+) a(%-?%x*)$')
  if id then
    redis.call('ZREM', garbage, name)
    names[i] = id .. ' o' .. number
  end
  redis.call('ZADD', garbage, now + term, names[i])
end
return names
