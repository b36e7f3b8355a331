-- All that one shard tells for `status` and metrics, at one moment. Whose keys are parked is looked at for the first 100 of them.
-- KEYS er:{S}:counts. ARGV number of lanes that are shown whatever happens, and their names.
-- Returns the counters; for each lane, those included that ever had deliveries, its name, the waiting units, the number of parked
-- keys, and when the oldest item was appended (ms; 0: nothing waits): the number in its id, since parked items keep theirs; why
-- turns failed; since when ids are remembered; and the bytes of memory in use and maxmemory.
local shard = string.match(KEYS[1], '^(er:{%d+}:)')
local counters = redis.call('HGETALL', KEYS[1])
local states, known = {}, {}

local function first_ms(stream)
  local row = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return row and tonumber(string.match(row[1], '^%d+')) or 0
end

local function look(name)
  if known[name] then
    return
  end
  known[name] = true
  local lane = shard .. 'lane:' .. name
  local parked = lane .. ':parked'
  local oldest = first_ms(lane)
  for _, key in ipairs(redis.call('ZRANGE', parked, 0, 99)) do
    local ms = first_ms(lane .. ':park:' .. key)
    if ms > 0 and (oldest == 0 or ms < oldest) then
      oldest = ms
    end
  end
  states[#states + 1] = { name, tonumber(redis.call('HGET', lane .. ':turn', 'waiting') or 0), redis.call('ZCARD', parked), oldest }
end

for _ = 1, number() do
  look(arg())
end
for i = 1, #counters, 2 do
  local name = string.match(counters[i], '^to:(.+)$')
  if name then
    look(name)
  end
end
local failures, since = redis.call('HGETALL', shard .. 'failures'), redis.call('LINDEX', shard .. 'seen', 0)
return { counters, states, failures, tonumber(since or 0), { memory() } }
