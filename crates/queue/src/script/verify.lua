-- VERIFY: what a server said of a recipient, in the place that it shares with others.
-- who: stands for the recipient. kind: one octet, `y` for a yes. life: how long it is believed, in ms. text: for people.
-- room: entries of a place; room_of_others: those among them that are no yes.
-- In a place without room the one goes that would end first. Answers 1.
local now = clock()
local last = now + life
local gone, first, first_other = {}, nil, nil
local count, others = 0, 0
local all = redis.call('HGETALL', place)
for i = 1, #all, 2 do
  local field, ends = all[i], tonumber(string.match(all[i + 1], '^.(%d+)')) or 0
  if field ~= who and ends <= now then
    gone[#gone + 1] = field
  elseif field ~= who then
    count = count + 1
    last = math.max(last, ends)
    if not first or ends < first.ends then first = {field = field, ends = ends} end
    if string.sub(all[i + 1], 1, 1) ~= 'y' then
      others = others + 1
      if not first_other or ends < first_other.ends then first_other = {field = field, ends = ends} end
    end
  end
end
if kind ~= 'y' and others >= tonumber(room_of_others) then
  gone[#gone + 1] = first_other.field
elseif count >= tonumber(room) then
  gone[#gone + 1] = first.field
end
if #gone > 0 then redis.call('HDEL', place, unpack(gone)) end
redis.call('HSET', place, who, string.format('%s%.0f %s', kind, now + life, text))
redis.call('PEXPIRE', place, string.format('%.0f', last - now))
return 1
