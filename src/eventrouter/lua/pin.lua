-- Pin a batch before its first attempt, so that whoever repeats it repeats the very same one.
-- Or before the first attempt at its parts: what was sent apart must not be sent together.
-- KEYS lane. ARGV token, batch id, item ids (with spaces between, | between the parts). Returns 1, or 0 when fenced off.
local token = arg()
if fenced_off(KEYS[1], token) then
  return 0
end
redis.call('HSET', KEYS[1] .. ':pins', arg(), arg())
return 1
