-- Each entry names the one before it: who reads on sees whether something is missing.
local function tell(stream, limit, what, target, value)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local after = last and last[1] or '0-0'
  return redis.call('XADD', stream, 'MAXLEN', '=', limit, '*', 'after', after, 'what', what, 'of', target, 'block', value)
end
