-- UNFINISHED: a body that comes in to the store, or is moved there, is entered in the garbage set. again: 1: it stays there until
-- then, if it has not been given up.
if again == '1' then redis.call('ZADD', garbage, 'XX', due, entry) else redis.call('ZADD', garbage, due, entry) end
