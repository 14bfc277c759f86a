-- GUESS: a token of a login's bucket, unless the login was used from this network lately: then none is needed.
-- known: networks that the login was used from, by when. network: stands for one; empty for none. life: how long, in ms,
-- a network is known. What follows is RATE. Answers as it does; {-1, 0}: the network is known.
local seen = tonumber(redis.call('ZSCORE', known, network) or '')
if seen and seen + life > clock() then return {-1, 0} end
