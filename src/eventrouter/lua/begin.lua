-- Begin a turn: only with the lane's present token; takes a new one, so that a second copy of the job is fenced off.
-- KEYS lane. ARGV token, new token, lease (ms), arq job id. Returns 1, the pinned batches and the number of
-- parked keys, or 0. If the turn before was woken, all of them are due.
local token, fresh, ms, job = arg(), arg(), number(), arg()
if fenced_off(KEYS[1], token) then
  return { 0 }
end
redis.call('HSET', KEYS[1] .. ':turn', 'token', fresh, 'begun', '1', 'job', job)
redis.call('ZREM', shard_of(KEYS[1]) .. 'due', name_of(KEYS[1]))
lease(KEYS[1], ms)
if redis.call('HDEL', KEYS[1] .. ':turn', 'woken') == 1 then
  all_due(KEYS[1])
end
return { 1, redis.call('HGETALL', KEYS[1] .. ':pins'), redis.call('ZCARD', KEYS[1] .. ':parked') }
