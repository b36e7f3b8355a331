-- Begin a turn: only with the lane's present token; takes a new one, so that a second copy of the job is fenced off.
-- KEYS lane. ARGV token, new token, lease (ms), arq job id. Returns 1, the pinned batches and the number of parked keys, or 0.
-- Due are the parked keys that the turn before had taken, however it ended; all of them, if it was woken.
local lane, token, fresh, ms, job = KEYS[1], arg(), arg(), number(), arg()
if fenced_off(lane, token) then
  return { 0 }
end
local turn, parked = lane .. ':turn', lane .. ':parked'
redis.call('HSET', turn, 'token', fresh, 'begun', '1', 'job', job)
redis.call('ZREM', shard_of(lane) .. 'due', name_of(lane))
lease(lane, ms)
if redis.call('HDEL', turn, 'taken') == 1 then
  local rows = redis.call('ZRANGEBYSCORE', parked, '(' .. now, now + 2 * ms, 'WITHSCORES')
  for i = 1, #rows, 2 do
    if rows[i + 1] % 1 > 0 then  -- see `read`; the others wait for their time
      redis.call('ZADD', parked, now, rows[i])
    end
  end
end
if redis.call('HDEL', turn, 'woken') == 1 then
  all_due(lane)
end
return { 1, redis.call('HGETALL', lane .. ':pins'), redis.call('ZCARD', parked) }
