-- NOTE: what an operator has done, where no other script does it. ended: of the message, 1 or 0.
note(acts, ended, act)
return 'OK'
