-- What the audit adds up: all of one shard, at one moment.
-- KEYS er:{S}:counts. ARGV how many bytes of a lane are read, at most, to count its units where an item may hold several.
-- Returns the counters, and for each lane its name, the units by its own counter, those that lie there, and whether these were
-- counted (1) or there was too much to read (0).
local shard, most = string.match(KEYS[1], '^(er:{%d+}:)'), number()
local counters = redis.call('HGETALL', KEYS[1])
local lanes, known = {}, {}

local function look(name, is_packed)
  if known[name] then
    return
  end
  known[name] = true
  local lane = shard .. 'lane:' .. name
  local told = tonumber(redis.call('HGET', lane .. ':turn', 'waiting') or 0)
  local there = redis.call('XLEN', lane)
  if is_packed and there > 0 then
    if there * 2000 > most or tonumber(redis.call('HGET', lane .. ':turn', 'bytes') or 0) > most then
      lanes[#lanes + 1] = { name, told, told, 0 }
      return
    end
    there = 0
    local from, rows = '-', nil
    repeat
      rows = redis.call('XRANGE', lane, from, '+', 'COUNT', 20)
      for _, row in ipairs(rows) do
        from = '(' .. row[1]
        there = there + tonumber(row[2][4])
      end
    until #rows < 20
  end
  -- A delivery is an item of its own.
  for _, key in ipairs(redis.call('ZRANGE', lane .. ':parked', 0, -1)) do
    there = there + redis.call('XLEN', lane .. ':park:' .. key)
  end
  lanes[#lanes + 1] = { name, told, there, 1 }
end

look('log', true)
look('warehouse', true)
for i = 1, #counters, 2 do
  local name = string.match(counters[i], '^to:(.+)$')
  if name then
    look(name, false)
  end
end
return { counters, lanes }
