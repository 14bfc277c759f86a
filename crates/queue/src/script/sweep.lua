-- SWEEP: what is left of a message that is neither listed nor has a record: with a `member`, a job in a set; else a key
-- without a life of its own. With repair (1) it is deleted.
-- Answers 1 if there is such a thing.
if redis.call('ZSCORE', ids, id) or redis.call('EXISTS', record) == 1 then return 0 end
if member ~= '' then
  if not redis.call('ZSCORE', place, member) then return 0 end
  if repair == '1' then redis.call('ZREM', place, member) end
  return 1
end
if redis.call('PTTL', place) ~= -1 then return 0 end
for _, name in ipairs(redis.call('ZRANGE', garbage, 0, -1)) do
  if string.sub(name, 1, #id + 1) == id .. ' ' then return 0 end
end
if repair == '1' then redis.call('UNLINK', place) end
return 1
