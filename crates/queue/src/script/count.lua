-- COUNT: adds what a pod has seen of a login to the counts of the hour.
-- login: hash of the login's hour. seen: its domains (HyperLogLog). tops: for each of the fields, and behind them for the
-- domains if there are any, logins by count. hour: which one the pod believes it to be, in hours since the epoch.
-- name: of the login. pod, number: which part of what this pod says; said again it changes nothing. room: logins of a top.
-- life: ms. fields, amounts: what is added to what; domains: digests.
-- Answers {hour, counts}; {hour}: it is another hour, and nothing was counted.
local function rank(top, count)
  if redis.call('ZADD', top, count, name) == 1 then
    redis.call('PEXPIRE', top, life)
    redis.call('ZREMRANGEBYRANK', top, 0, -1 - room)
  end
end

local past = tonumber(redis.call('HGET', login, pod) or '')
if past and past >= tonumber(number) then return {tonumber(hour), redis.call('HGETALL', login)} end
local now = math.floor(clock() / 3600000)
if now ~= tonumber(hour) then return {now} end

if redis.call('HSET', login, pod, number) == 1 then redis.call('PEXPIRE', login, life) end
for i, field in ipairs(fields) do rank(tops[i], redis.call('HINCRBY', login, field, amounts[i])) end
if #domains > 0 and redis.call('PFADD', seen, unpack(domains)) == 1 then
  local count = redis.call('PFCOUNT', seen)
  redis.call('PEXPIRE', seen, life)
  redis.call('HSET', login, 'domains', count)
  rank(tops[#fields + 1], count)
end
return {now, redis.call('HGETALL', login)}
