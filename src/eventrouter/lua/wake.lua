-- Wake lanes: what they wait for may be there. Parked keys are due at once, and a claimed lane whose turn has not begun loses its
-- lease, so that the sweep enqueues the same token under a new job id. A turn that has begun has its keys in hand: it is noted that
-- it was woken, and when it ends, the next one doesn't wait.
-- KEYS lanes of one shard.
for _, lane in ipairs(KEYS) do
  local begun = redis.call('HGET', lane .. ':turn', 'begun')
  if begun == '1' then
    redis.call('HSET', lane .. ':turn', 'woken', '1')
  else
    all_due(lane)
    redis.call('ZADD', shard_of(lane) .. (begun and 'leases' or 'due'), 'XX', now, name_of(lane))
  end
end
return 1
