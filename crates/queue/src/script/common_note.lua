-- What an operator has done to a message, for the mail log: a worker takes it from here. ended: of the message, 1 or 0.
-- Nothing is noted of what no operator did.
local function note(acts, ended, act)
  if act == '' then return end
  redis.call('RPUSH', acts, ended .. '\n' .. act)
  redis.call('LTRIM', acts, -10000, -1)
end
