-- STORE: a chunk that a record will name; until then it has a life of its own. octets: of the chunk. life: in ms.
return redis.call('SET', chunk, octets, 'PX', life)
