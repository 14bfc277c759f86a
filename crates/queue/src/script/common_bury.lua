-- Remembers that a message is over, so that a late enqueue of it is refused. The set holds one minute of arrivals; a
-- record that is more than a minute older or younger than TIME is refused anyway, so four minutes are enough.
local function bury(tombstones, id)
  local first = redis.call('EXISTS', tombstones) == 0
  redis.call('SADD', tombstones, id)
  if first then redis.call('PEXPIRE', tombstones, 240000) end
end
