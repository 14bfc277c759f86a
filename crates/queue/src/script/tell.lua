-- TELL: tells all pods of a login: what they believe of it must be asked again (revoke), or what is under way of it is to be
-- held instead of waiting again (hold).
-- Answers the place of the entry.
return tell(journal, length, what, target, '')
