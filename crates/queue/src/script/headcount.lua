-- HEADCOUNT: a pod says how many connections of a client it has, or wants to have.
-- pods: "count version end" of each pod. pod: which one. count: of this pod. version: higher than what it said before;
-- what comes late changes nothing. life: ms for which it holds. limit: of all pods, in which what this pod wants must fit;
-- 0: it has them already. Answers what the pod has of it now.
local now = clock()
local own_count, own_version, others, gone = 0, -1, 0, {}
local all = redis.call('HGETALL', pods)
for i = 1, #all, 2 do
  local n, v, ends = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
  if all[i] == pod then
    own_count, own_version = tonumber(n or 0), tonumber(v or -1)
  elseif not n or tonumber(ends) <= now then
    gone[#gone + 1] = all[i]
  else
    others = others + n
  end
end
if own_version >= tonumber(version) then return own_count end
local granted = tonumber(count)
if limit ~= '0' then granted = math.max(0, math.min(granted, limit - others)) end
if granted == 0 then gone[#gone + 1] = pod end
if #gone > 0 then redis.call('HDEL', pods, unpack(gone)) end
if granted > 0 then
  redis.call('HSET', pods, pod, string.format('%d %s %.0f', granted, version, now + life))
  redis.call('PEXPIRE', pods, life)
end
return granted
