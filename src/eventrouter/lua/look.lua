-- What the router asks before it routes a batch: which events were seen, and how much waits in the lanes ahead.
-- KEYS the log's lane, then the lanes ahead. Blobs: event digests.
-- Returns a string of 0 and 1, the waiting units per lane ahead and their bytes, the memory in use, maxmemory (0: no limit), and
-- the bytes in this shard's log and in its warehouse's lane.
local shard = shard_of(KEYS[1])
local seen = seen_in(shard .. 'seen', 2, #ARGV)
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
