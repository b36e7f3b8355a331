-- What the router asks before it routes a batch: which events were seen, and how much waits in the lanes ahead.
-- KEYS the log's lane, then the lanes ahead. Blobs: event digests.
-- Returns a string of 0 and 1, the waiting units per lane ahead and their bytes, the memory in use, maxmemory (0: no limit), and
-- the bytes in this shard's log and in its warehouse's lane.
local shard = shard_of(KEYS[1])
local seen = {}
for i = 2, #ARGV do
  seen[i - 1] = 0
end
for _, start in ipairs(redis.call('LRANGE', shard .. 'seen', 0, -1)) do
  for first = 2, #ARGV, 5000 do
    local flags = redis.call('SMISMEMBER', shard .. 'seen:' .. start, unpack(ARGV, first, math.min(first + 4999, #ARGV)))
    for i, flag in ipairs(flags) do
      if flag == 1 then
        seen[first + i - 2] = 1
      end
    end
  end
end
local function of(lane, field)
  return tonumber(redis.call('HGET', lane .. ':turn', field) or 0)
end
local waiting, bytes = {}, {}
for i = 2, #KEYS do
  waiting[i - 1] = of(KEYS[i], 'waiting')
  bytes[i - 1] = of(KEYS[i], 'bytes')
end
local used, max = memory()
return { table.concat(seen), waiting, bytes, used, max, of(KEYS[1], 'bytes'), of(shard .. 'lane:warehouse', 'bytes') }
