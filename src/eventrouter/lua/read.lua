-- Read on: the due parked keys first, then the stream after an id, without parked keys (theirs move behind their siblings).
-- With nothing to give and `give back`, the claim ends in this same step: else an append just now would wake nobody.
-- KEYS lane. ARGV token, after (id or ''), units, bytes, how many of both may be of parked keys, items of one due key, ms until a
-- taken key is due again, give back (0/1).
-- Returns a status ('fenced', 'items', 'empty', 'idle': given back), the items as {id, parked (0/1), k, n, d, tries}, the time
-- now, the next due time of a parked key (0: none), and for 'empty' the id after which new items will come.
local lane = KEYS[1]
local token, after, units, bytes = arg(), arg(), number(), number()
local parked_units, parked_bytes, per_key, taken_ms, give_back = number(), number(), number(), number(), number()
if fenced_off(lane, token) then
  return { 'fenced' }
end
local parked, tries = lane .. ':parked', lane .. ':tries'
local some_parked = redis.call('EXISTS', parked) == 1
local some_tries = redis.call('EXISTS', tries) == 1
local items = {}

local function give(row, is_parked)
  local fields = row[2]
  local known = some_tries and redis.call('HGET', tries, row[1]) or ''
  items[#items + 1] = { row[1], is_parked, fields[2], fields[4], fields[6], known or '' }
  units = units - tonumber(fields[4])
  bytes = bytes - #fields[6]
end

if some_parked then
  local units_left, bytes_left = units - math.min(parked_units, units), bytes - math.min(parked_bytes, bytes)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', parked, '-inf', now, 'LIMIT', 0, 100)) do
    if units <= units_left or bytes <= bytes_left then
      break
    end
    local rows = redis.call('XRANGE', lane .. ':park:' .. key, '-', '+', 'COUNT', per_key)
    if #rows == 0 then
      redis.call('ZREM', parked, key)
      redis.call('DEL', lane .. ':park:' .. key)
    else
      -- Half a millisecond tells `begin` that it was taken, and doesn't wait for its time.
      redis.call('ZADD', parked, now + taken_ms - 0.5, key)
      redis.call('HSET', lane .. ':turn', 'taken', '1')
      for _, row in ipairs(rows) do
        give(row, 1)
      end
    end
  end
end

local from = after == '' and '-' or '(' .. after
local looked = 0
while units > 0 and bytes > 0 and looked < 20000 do
  local wanted = math.min(units, 100)
  local rows = redis.call('XRANGE', lane, from, '+', 'COUNT', wanted)
  for _, row in ipairs(rows) do
    if units <= 0 or bytes <= 0 then
      break
    end
    from = '(' .. row[1]
    looked = looked + 1
    local key = row[2][2]
    if some_parked and key ~= '' and redis.call('ZSCORE', parked, key) then
      redis.call('XADD', lane .. ':park:' .. key, row[1], unpack(row[2]))
      redis.call('XDEL', lane, row[1])
    else
      give(row, 0)
    end
  end
  if #rows < wanted then
    break
  end
end

local next_due = some_parked and redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')[2] or 0
if #items > 0 then
  return { 'items', items, now, tonumber(next_due) }
end
if looked >= 20000 then
  return { 'items', {}, now, tonumber(next_due) }
end
if give_back == 1 then
  if redis.call('HDEL', lane .. ':turn', 'woken') == 1 and tonumber(next_due) > 0 then
    all_due(lane)
    next_due = now
  end
  redis.call('HDEL', lane .. ':turn', 'token', 'begun', 'job', 'taken')
  redis.call('ZREM', shard_of(lane) .. 'leases', name_of(lane))
  if tonumber(next_due) > 0 then
    redis.call('ZADD', shard_of(lane) .. 'due', next_due, name_of(lane))
  elseif redis.call('XLEN', lane) == 0 then
    redis.call('HDEL', lane .. ':turn', 'waiting', 'bytes')  -- nothing waits, whatever was counted
  end
  return { 'idle', {}, now, tonumber(next_due) }
end
local last = '0-0'
if redis.call('EXISTS', lane) == 1 then
  local info = redis.call('XINFO', 'STREAM', lane)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
return { 'empty', {}, now, tonumber(next_due), last }
