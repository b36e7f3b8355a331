-- Wake lanes: what they wait for may be there. Parked keys are due at once, and a claimed lane whose turn has not begun loses its
-- lease, so that the sweep enqueues the same token under a new job id. A turn that has begun is left alone: it has its keys in hand.
-- KEYS lanes of one shard.
for _, lane in ipairs(KEYS) do
  local parked = lane .. ':parked'
  local begun = redis.call('HGET', lane .. ':turn', 'begun')
  if begun ~= '1' then
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', parked, '(' .. now, '+inf')) do
      redis.call('ZADD', parked, now, key)
    end
    redis.call('ZADD', shard_of(lane) .. (begun and 'leases' or 'due'), 'XX', now, name_of(lane))
  end
end
return 1
