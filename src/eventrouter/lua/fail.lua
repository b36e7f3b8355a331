-- Note that a turn came to nothing, and why, for `status` and metrics. Not fenced: it tells what was, and changes no item.
-- KEYS lane. ARGV ms until the next turn, the reason. Counts turn_failed:LANE.
local shard, name, wait, reason = shard_of(KEYS[1]), name_of(KEYS[1]), number(), arg()
redis.call('HSET', shard .. 'failures', name, string.format('%.0f %.0f ', now, now + wait) .. reason)
count(shard, 'turn_failed:' .. name, 1)
return 1
