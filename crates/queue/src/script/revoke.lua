-- REVOKE: tells all pods that what they believe of a login must be asked again.
-- Answers the place of the entry.
return tell(journal, length, 'revoke', target, '')
