-- Do pieces of work that nobody did before: the digest of each is remembered in the same step. It asks for memory as `append` does.
-- KEYS lanes of one shard. ARGV percent of maxmemory, how long (ms) and how many digests are remembered, short lease, a token for
-- each lane; pieces: appends (number of the lane's key, count field, k, n; their data are blobs), counts.
-- Blobs: the digests of the pieces, then the data. Something is written in any case, for whoever waits for replicas: what was done
-- before may be what they don't have yet.
-- Returns the lanes that were claimed with it, and a string with 1 for each piece that was done, 0 for each that had been.
local percent, window, most, short, tokens, pieces = number(), number(), number(), number(), arg(), number()
local used, max = memory()
if percent > 0 and max > 0 and used * 100 / max >= percent then
  return redis.error_reply('FULL the memory budget is used up')
end
local shard, digests = shard_of(KEYS[1]), blobs + 1
local seen = seen_in(shard .. 'seen_again', digests, blobs + pieces)
blobs = blobs + pieces

local touched = {}
for i = 1, pieces do
  local fresh = seen[i] == 0
  for _ = 1, number() do
    local at, field, key, n, data = number(), arg(), arg(), number(), blob()
    if fresh then
      local lane = KEYS[at]
      redis.call('XADD', lane, '*', 'k', key, 'n', n, 'd', data)
      redis.call('HINCRBY', lane .. ':turn', 'waiting', n)
      redis.call('HINCRBY', lane .. ':turn', 'bytes', #data)
      count(shard, field, n)
      touched[at] = true
    end
  end
  for _ = 1, number() do
    local field, by = arg(), number()
    if fresh then
      count(shard, field, by)
    end
  end
  seen[i] = fresh and 1 or 0
end
remember(shard .. 'seen_again', digests, digests + pieces - 1, window, most)
redis.call('SET', shard .. 'again', now)

local claimed = {}
for i, lane in ipairs(KEYS) do
  if touched[i] and claim(lane, tokens[i], short) then
    claimed[#claimed + 1] = lane
    claimed[#claimed + 1] = tokens[i]
  end
end
return { claimed, table.concat(seen) }
