-- NOTE_SESSIONS: sessions with the hosts of a domain, which is told of them when a period is over.
-- pending: the reports that will be due, by the time in ms. counts: how often what was seen, of this report.
-- report: its name. due, life: ms. most: reports that may be pending. room: outcomes that one tells apart.
-- outcomes, numbers: what was seen how often.
-- Answers 1; 0: too many are pending.
if not redis.call('ZSCORE', pending, report) then
  if redis.call('ZCARD', pending) >= tonumber(most) then return 0 end
  redis.call('ZADD', pending, due, report)
end
local left = tonumber(room) - redis.call('HLEN', counts)
for i, outcome in ipairs(outcomes) do
  local is_new = redis.call('HEXISTS', counts, outcome) == 0
  if left > 0 or not is_new then redis.call('HINCRBY', counts, outcome, numbers[i]) end
  if is_new then left = left - 1 end
end
redis.call('PEXPIRE', counts, life)
return 1
