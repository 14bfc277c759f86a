-- RENEW: extends leases that still exist.
-- KEYS: lease. ARGV: lease in ms, member…
-- Answers 1 or 0 for each.
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2))
local ends = clock() + ARGV[1]
local answer, renewed = {}, {}
for i, score in ipairs(scores) do
  if score then
    renewed[#renewed + 1] = ends
    renewed[#renewed + 1] = ARGV[i + 1]
    answer[i] = 1
  else
    answer[i] = 0
  end
end
if #renewed > 0 then redis.call('ZADD', KEYS[1], 'XX', 'GT', unpack(renewed)) end
return answer
