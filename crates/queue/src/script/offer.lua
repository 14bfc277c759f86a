-- OFFER: destinations with work, least recently served first; each is offered again only after the visit time (ms).
-- Answers { ms until something else becomes due or -1, destination… }.
limit, visit = tonumber(limit), tonumber(visit)
local head = redis.call('ZRANGE', due, 0, limit, 'WITHSCORES')
if #head == 0 then return { -1 } end
local now = clock()
local answer, later = { -1 }, {}
for i = 1, #head, 2 do
  local at = tonumber(head[i + 1])
  if at > now or #answer > limit then
    answer[1] = math.max(0, at - now)
    break
  end
  answer[#answer + 1] = head[i]
  later[#later + 1] = now + visit
  later[#later + 1] = head[i]
end
if #later > 0 then
  redis.call('ZADD', due, 'XX', unpack(later))
  if answer[1] < 0 or answer[1] > visit then answer[1] = visit end
end
return answer
