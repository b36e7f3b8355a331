-- Settle: take out what is delivered, dead or routed, park what failed, append what follows from it (deliveries, records), mark
-- events as seen, renew. Counts by what was really there. Memory may be full: this step makes room.
-- KEYS lane, then the lanes to append to. ARGV token, lease (ms),
--   removals that are alike: k when they are parked else '', n of each, count field, bytes of their data, number of ids, the ids
--   parks: k, delay (ms), items in order: id and tries (JSON or ''); those in the park stay where they are
--   notes: items that stay where they are: id and tries (JSON)
--   pins: what is left of pinned batches: batch id, item ids ('' when the batch ends)
--   due: parked keys of which the turn has nothing in hand any more
--   appends, counts
--   outcomes: number of entries for the outcome log, and its size in bytes; the entries are blobs
--   seen: number, then window (ms), most ids; the digests are blobs
-- Returns 'fenced', or 'ok', the claimed lanes, and the number of parked keys.
local lane, token, ms = KEYS[1], arg(), number()
if fenced_off(lane, token) then
  return { 'fenced' }
end
local shard, parked = shard_of(lane), lane .. ':parked'
lease(lane, ms)

local removed, bytes = 0, 0
for _ = 1, number() do
  local key, n, field, size, ids = arg(), number(), arg(), number(), {}
  for i = 1, number() do
    ids[i] = arg()
  end
  local stream, there = key == '' and lane or lane .. ':park:' .. key, 0
  for from = 1, #ids, 5000 do
    local to = math.min(from + 4999, #ids)
    there = there + redis.call('XDEL', stream, unpack(ids, from, to))
    redis.call('HDEL', lane .. ':tries', unpack(ids, from, to))
  end
  removed = removed + there * n
  bytes = bytes + math.floor(size * there / #ids)  -- of items that somebody else took out, about
  count(shard, field, there * n)
  if key ~= '' and there > 0 and redis.call('XLEN', stream) == 0 then
    redis.call('DEL', stream)
    redis.call('ZREM', parked, key)
  end
end
if removed > 0 then
  redis.call('HINCRBY', lane .. ':turn', 'bytes', -bytes)
  if redis.call('HINCRBY', lane .. ':turn', 'waiting', -removed) <= 0 then
    redis.call('HDEL', lane .. ':turn', 'bytes')
  end
end

for _ = 1, number() do
  local key, delay = arg(), number()
  local park = lane .. ':park:' .. key
  for _ = 1, number() do
    local id, tries = arg(), arg()
    local row = redis.call('XRANGE', lane, id, id)[1]
    if row then
      redis.call('XADD', park, id, unpack(row[2]))
      redis.call('XDEL', lane, id)
    end
    if tries ~= '' and (row or redis.call('XRANGE', park, id, id)[1]) then
      redis.call('HSET', lane .. ':tries', id, tries)
    end
  end
  if redis.call('EXISTS', park) == 1 then
    redis.call('ZADD', parked, now + delay, key)
  end
end

for _ = 1, number() do
  local item, known = arg(), arg()
  redis.call('HSET', lane .. ':tries', item, known)
end

for _ = 1, number() do
  local batch, ids = arg(), arg()
  if ids == '' then
    redis.call('HDEL', lane .. ':pins', batch)
  else
    redis.call('HSET', lane .. ':pins', batch, ids)
  end
end
for _ = 1, number() do
  redis.call('ZADD', parked, 'XX', now, arg())
end

local claimed = appends()
counts(shard)

local entries, room = number(), number()
for _ = 1, entries do
  local data, log = blob(), shard .. 'outcomes'
  -- Its id is the number of bytes that were ever written, the stream's own included, about: older than the room is too old.
  local bytes = redis.call('INCRBY', log .. ':end', #data + 40)
  local from = string.format('%.0f', math.max(bytes - room, 0))
  local id = string.format('%.0f-0', bytes)
  if redis.pcall('XADD', log, 'MINID', '~', from, id, 'd', data).err then
    redis.call('DEL', log)  -- somebody has taken its end away
    redis.call('XADD', log, id, 'd', data)
  end
end

local new = number()
if new > 0 then
  remember(shard .. 'seen', blobs + 1, blobs + new, number(), number())
end
return { 'ok', claimed, redis.call('ZCARD', parked) }
