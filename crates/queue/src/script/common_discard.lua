-- The body of a message that is over lies in chunks: the reaper deletes them by this entry. A small body needs none.
local function discard(garbage, id, chunks)
  if chunks ~= '0' then redis.call('ZADD', garbage, clock(), id .. ' ' .. chunks) end
end
