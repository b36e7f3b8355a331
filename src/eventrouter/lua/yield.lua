-- End a turn before its lane is empty (back off, wait for a batch, let others in): new token, not begun, lease until the next try.
-- KEYS lane. ARGV token, new token, delay (ms), short lease (ms).
-- Without a delay when the turn was woken meanwhile: what it wants to wait for may be there.
-- Returns 1, or 2 when it was woken, or 0 when fenced off. The caller then enqueues.
local lane, token, fresh, delay, short = KEYS[1], arg(), arg(), number(), number()
if fenced_off(lane, token) then
  return 0
end
local woken = redis.call('HEXISTS', lane .. ':turn', 'woken')
if woken == 1 then
  delay = 0
end
redis.call('HSET', lane .. ':turn', 'token', fresh, 'begun', '0')
redis.call('HDEL', lane .. ':turn', 'job')
lease(lane, delay + short)
return 1 + woken
