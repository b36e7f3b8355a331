-- The places for calls of a destination, over all shards and workers. KEYS er:{dest:NAME}:calls, a sorted set: the random id of a
-- place that is taken -> the end of its lease (ms); er:{dest:NAME}:calls:next: the worker for whom the next free one is kept.
-- ARGV step, the ms of a lease, and what the step takes.
local key, kept = KEYS[1], KEYS[2]
local step, ms = arg(), number()

local function take(id)
  redis.call('ZADD', key, now + ms, id)
  redis.call('PEXPIRE', key, ms)
end

if step == 'give' then
  -- ARGV number of ids, ids
  for _ = 1, number() do
    redis.call('ZREM', key, arg())
  end
  return 0
elseif step == 'renew' then
  -- ARGV number of ids, ids. One that is gone is there again: its call runs.
  for _ = 1, number() do
    take(arg())
  end
  return 0
end

-- ARGV id of the place, how many there are, the worker, for how long one is kept for it if it has to wait (ms; 0: not at all).
-- Returns 1 (taken), 0, or 2 when the next free one is kept for it.
local id, most, worker, hold = arg(), number(), arg(), number()
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
for _, one in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. now + ms, '+inf')) do
  redis.call('ZADD', key, now + ms, one) -- the clock was set back
end
local waits = redis.call('GET', kept)
if redis.call('ZCARD', key) + (waits and waits ~= worker and 1 or 0) < most then
  take(id)
  if waits == worker then
    redis.call('DEL', kept)
  end
  return 1
end
if hold == 0 or (waits and waits ~= worker) then
  return 0
end
redis.call('SET', kept, worker, 'PX', hold)
return 2
