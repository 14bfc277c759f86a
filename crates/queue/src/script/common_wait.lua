-- Lets a job wait, from now on.
local function wait(waiting, job, due, destination, now)
  redis.call('ZADD', waiting, now, job)
  redis.call('ZADD', due, 'LT', now, destination)
end

-- How many of the chunks are missing.
local function missing(chunks)
  local absent = 0
  for _, chunk in ipairs(chunks) do absent = absent + 1 - redis.call('EXISTS', chunk) end
  return absent
end

-- The chunks belong to a message now.
local function keep(chunks)
  for _, chunk in ipairs(chunks) do redis.call('PERSIST', chunk) end
end
