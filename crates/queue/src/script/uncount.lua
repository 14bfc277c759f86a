-- UNCOUNT: puts right how many messages of a login are in the queue. messages: so many fewer.
uncount(counted, login, messages)
return 1
