-- Keep new items, and claim the lanes that nobody serves. The only step that asks for memory: it refuses at the budget.
-- KEYS lanes of one shard. ARGV percent of maxmemory, appends, counts.
local percent = number()
if percent > 0 then
  local info = redis.call('INFO', 'memory')
  local max = tonumber(string.match(info, '[\r\n]maxmemory:(%d+)'))
  if max and max > 0 and tonumber(string.match(info, 'used_memory:(%d+)')) > max * percent / 100 then
    return redis.error_reply('FULL the memory budget is used up')
  end
end
local claimed = appends()
counts(shard_of(KEYS[1]))
return claimed
