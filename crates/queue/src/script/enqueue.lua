-- ENQ: queues a message with all its jobs, or does nothing.
-- The record has been put in its place right before, with a life: what a script is given is hashed octet by octet. A full
-- Redis refuses the record, never the script: nothing is left behind of what is refused.
-- With several jobs there is `open`. With `held` its jobs do not wait but are held, until the end of their life in `until_held`.
-- `counted`, if it counts for a login: how many messages each has in the queue.
-- `unfinished`, if the body is in the store: the set that says that it is still there. From then on nobody clears it up.
-- wake: the channel of workers, who are told if nothing was due: a hint, so that it may fail.
-- stamp: how the record begins: equal for a repetition, different for everybody else.
-- Answers OK, DUP (this very message is queued), DONE (it was, and is over), CONFLICT (another has its id),
-- LATE (arrived is more than a minute off, or it is later than `ends`: whoever asked has said no to the client by now),
-- NORECORD (it was refused), NOBODY (chunks are missing, or what is in the store was given up).
if redis.call('SISMEMBER', tombstones, id) == 1 then
  redis.call('UNLINK', record)
  return 'DONE'
end
local found = redis.call('GETRANGE', record, 0, 8)
if found ~= stamp then return found == '' and 'NORECORD' or 'CONFLICT' end
local now = clock()
local refusal
if math.abs(now - tonumber(arrived)) > 60000 or now > tonumber(ends) then
  refusal = 'LATE'
elseif missing(chunks) > 0 or unfinished[1] and not redis.call('ZSCORE', unfinished[1], id .. ' a') then
  refusal = 'NOBODY'
end
if refusal then
  if redis.call('ZSCORE', ids, id) then return 'DUP' end
  redis.call('UNLINK', record)
  return refusal
end

local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local idle = not held[1] and (not head[1] or tonumber(head[2]) > now)
if redis.call('ZADD', ids, 'NX', 0, id) == 0 then return 'DUP' end
redis.call('PERSIST', record)
keep(chunks)
if unfinished[1] then redis.call('ZREM', unfinished[1], id .. ' a') end
for i, queue in ipairs(waiting) do
  local job = id .. '.' .. (i - 1)
  if held[1] then redis.call('ZADD', held[1], until_held[1], job) else wait(queue, job, due, destinations[i], now) end
end
if open[1] then
  for i = 1, #waiting do redis.call('SADD', open[1], i - 1) end
  redis.call('INCRBY', extra, #waiting - 1)
end
if counted[1] then redis.call('HINCRBY', counted[1], login[1], 1) end
if idle then redis.pcall('PUBLISH', wake, '') end
return 'OK'
