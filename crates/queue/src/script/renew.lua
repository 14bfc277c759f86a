-- RENEW: extends leases that still exist, to `term` ms from now.
-- Answers 1 or 0 for each.
local scores = redis.call('ZMSCORE', lease, unpack(members))
local ends = clock() + term
local answer, renewed = {}, {}
for i, score in ipairs(scores) do
  if score then
    renewed[#renewed + 1] = ends
    renewed[#renewed + 1] = members[i]
    answer[i] = 1
  else
    answer[i] = 0
  end
end
if #renewed > 0 then redis.call('ZADD', lease, 'XX', 'GT', unpack(renewed)) end
return answer
