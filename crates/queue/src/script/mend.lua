-- MEND: looks at all that belongs to a message at one moment, and with repair (1) puts it right.
-- waiting, destinations: of all its jobs; none of a message without a record. octets: how long the record was that named them.
-- members: its leases, as far as they are known; deep (1): look through all there are, of which no job may be missed.
-- act: what to note of a message that is lost.
-- Answers { open jobs, finding… }; a finding is a word, and of a job its destination behind a blank. 'changed': the record is not
-- the one that was read any more, and nothing was looked at.
local listed, life = redis.call('ZSCORE', ids, id), redis.call('PTTL', record)
local length = redis.call('STRLEN', record)
if length == 0 then life = -2 end
if life == -2 or not listed and life >= 0 then
  if not listed then return { 0 } end
  if repair == '1' then
    redis.call('UNLINK', record)
    redis.call('ZREM', ids, id)
    note(acts, '1', act)
  end
  return { 0, 'lost' }
end
if length ~= tonumber(octets) then return { 0, 'changed' } end
local answer, absent, fading = { 0 }, 0, life >= 0
for _, chunk in ipairs(chunks) do
  local rest = redis.call('PTTL', chunk)
  if rest == -2 then absent = absent + 1 end
  if rest >= 0 then fading = true end
end
local several = #waiting > 1 or redis.call('EXISTS', open) == 1
local known = not several or redis.call('EXISTS', open) == 1
local jobs, all, placed = {}, members, false
for i, queue in ipairs(waiting) do
  local name = id .. '.' .. (i - 1)
  local one = { name = name, waits = redis.call('ZSCORE', queue, name), holds = redis.call('ZSCORE', held, name) }
  one.is_open = not several or redis.call('SISMEMBER', open, i - 1) == 1
  jobs[i] = one
end
if deep == '1' then all = redis.call('ZRANGE', lease, 0, -1) end
for _, member in ipairs(all) do
  local number = string.sub(member, 1, #id + 1) == id .. '.' and string.match(member, '^%d+', #id + 2)
  if number and jobs[number + 1] and redis.call('ZSCORE', lease, member) then jobs[number + 1].leased = member end
end
for _, one in ipairs(jobs) do
  one.places = (one.waits and 1 or 0) + (one.holds and 1 or 0) + (one.leased and 1 or 0)
  placed = placed or one.places > 0
end

local now = clock()
if fading then
  answer[#answer + 1] = 'fading'
  if repair == '1' then
    redis.call('PERSIST', record)
    keep(chunks)
  end
end
if absent > 0 then answer[#answer + 1] = 'torn' end
if not listed then
  answer[#answer + 1] = 'unlisted'
  if repair == '1' then redis.call('ZADD', ids, 0, id) end
end
if not known then answer[#answer + 1] = 'uncounted' end
for i, one in ipairs(jobs) do
  -- Of a message that has forgotten which jobs are open, those that are somewhere; all, if none is.
  if not known then one.is_open = one.places > 0 or not placed end
  if one.is_open then answer[1] = answer[1] + 1 end
  if one.is_open and one.places == 0 then
    answer[#answer + 1] = 'nowhere ' .. destinations[i]
    if repair == '1' then wait(waiting[i], one.name, due, destinations[i], now) end
  end
  if one.is_open and one.places > 1 or not one.is_open and one.places > 0 then
    answer[#answer + 1] = (one.is_open and 'twice ' or 'over ') .. destinations[i]
    if repair == '1' then
      if one.leased and not one.is_open then redis.call('ZREM', lease, one.leased) end
      if one.holds and (one.leased or not one.is_open) then redis.call('ZREM', held, one.name) end
      if one.waits then redis.call('ZREM', waiting[i], one.name) end
    end
  end
  if repair == '1' and one.is_open and not known then redis.call('SADD', open, i - 1) end
end
return answer
