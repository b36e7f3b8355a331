-- What the audit adds up: all of one shard, at one moment.
-- KEYS er:{S}:counts. ARGV how many bytes of a lane are read, at most, to count its units where an item may hold several.
-- Returns the counters; for each lane its name, the units by its own counter, those that lie there, and whether these were
-- counted (1) or there was too much to read (0); and of the events in the log, where they were counted, how many each source has.
local shard, most = string.match(KEYS[1], '^(er:{%d+}:)'), number()
local counters = redis.call('HGETALL', KEYS[1])
local lanes, known, sources = {}, {}, {}

-- An event of an entry stands on a line of its own, with its source in front (see log_entry.py). An entry that has more of them than
-- events was damaged: nobody knows whose they are.
local function count_sources(data, units)
  local names, at = {}, string.find(data, '\n["', 1, true)
  while at do
    names[#names + 1] = string.match(data, '^([%w_%-]+)",', at + 3)
    at = string.find(data, '\n["', at + 3, true)
  end
  if #names <= units then
    for _, name in ipairs(names) do
      sources[name] = (sources[name] or 0) + 1
    end
  end
end

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
        if name == 'log' then
          count_sources(row[2][6], tonumber(row[2][4]))
        end
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
local by_source = {}
for name, number_ in pairs(sources) do
  by_source[#by_source + 1] = { name, number_ }
end
return { counters, lanes, by_source }
