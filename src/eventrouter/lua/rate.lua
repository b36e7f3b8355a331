-- A rate that all workers share (GCRA: one time per bucket). KEYS the bucket. ARGV messages, interval of one message (µs), burst.
-- More messages than a burst wait for a full bucket and leave it in debt.
-- Returns 0 and takes them, or the ms after which to ask again.
local n, interval, burst = number(), number(), number()
local micros = time[1] * 1000000 + time[2]
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), micros)
local ahead = at - micros - math.max(burst - n, 0) * interval
if ahead > 0 then
  return math.ceil(ahead / 1000)
end
redis.call('SET', KEYS[1], string.format('%.0f', at + n * interval), 'PX', math.ceil((at + n * interval - micros) / 1000) + 1000)
return 0
