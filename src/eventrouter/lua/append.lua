-- Keep new items, and claim the lanes that nobody serves. The only step that asks for memory: it refuses at the budget.
-- KEYS lanes of one shard. ARGV percent of maxmemory, appends, counts.
local percent = number()
local used, max = memory()
if percent > 0 and max > 0 and used * 100 / max >= percent then
  return redis.error_reply('FULL the memory budget is used up')
end
local claimed = appends()
counts(shard_of(KEYS[1]))
return claimed
