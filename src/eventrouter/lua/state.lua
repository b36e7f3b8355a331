-- What waits in lanes, for `status` and metrics. Whose keys are parked is looked at for the first 100 of them.
-- KEYS lanes of one shard. Returns per lane the waiting units, the number of parked keys, and when the oldest item was appended
-- (ms; 0: nothing waits): the number in its id, since parked items keep theirs. Last come the bytes of memory in use and maxmemory.
local function first_ms(stream)
  local row = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return row and tonumber(string.match(row[1], '^%d+')) or 0
end

local states = {}
for i, lane in ipairs(KEYS) do
  local parked = lane .. ':parked'
  local oldest = first_ms(lane)
  for _, key in ipairs(redis.call('ZRANGE', parked, 0, 99)) do
    local ms = first_ms(lane .. ':park:' .. key)
    if ms > 0 and (oldest == 0 or ms < oldest) then
      oldest = ms
    end
  end
  states[i] = { tonumber(redis.call('HGET', lane .. ':turn', 'waiting') or 0), redis.call('ZCARD', parked), oldest }
end
states[#states + 1] = { memory() }
return states
