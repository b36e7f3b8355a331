-- What the router asks before it routes a batch: which events were seen, and how much waits in the lanes ahead.
-- KEYS the log's lane, then the lanes ahead. ARGV event digests.
-- Returns a string of 0 and 1, the waiting units per lane, percent of maxmemory in use (0: it has no limit), and the percent
-- that this shard's log and its warehouse's lane have of it.
local shard = shard_of(KEYS[1])
local seen = {}
for i = 1, #ARGV do
  seen[i] = 0
end
for _, start in ipairs(redis.call('LRANGE', shard .. 'seen', 0, -1)) do
  for first = 1, #ARGV, 5000 do
    local flags = redis.call('SMISMEMBER', shard .. 'seen:' .. start, unpack(ARGV, first, math.min(first + 4999, #ARGV)))
    for i, flag in ipairs(flags) do
      if flag == 1 then
        seen[first + i - 1] = 1
      end
    end
  end
end
local waiting = {}
for i = 2, #KEYS do
  waiting[#waiting + 1] = tonumber(redis.call('HGET', KEYS[i] .. ':turn', 'waiting') or 0)
end
local memory, own = memory_percent(), 0
if memory > 0 then
  local max = tonumber(string.match(redis.call('INFO', 'memory'), '[\r\n]maxmemory:(%d+)'))
  for _, key in ipairs({ KEYS[1], shard .. 'lane:warehouse' }) do
    own = own + (redis.call('MEMORY', 'USAGE', key) or 0) * 100 / max
  end
end
return { table.concat(seen), waiting, memory, own }
