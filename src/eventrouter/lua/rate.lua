-- A rate that all workers share (GCRA: one time per bucket, and when it was written: the clock may be set back since).
-- KEYS the bucket. ARGV messages, interval of one message (µs), burst.
-- More messages than a burst wait for a full bucket and leave it in debt.
-- Returns 0 and takes them, or the ms after which to ask again.
local n, interval, burst = number(), number(), number()
local micros = time[1] * 1000000 + time[2]
local stored, written = string.match(redis.call('GET', KEYS[1]) or '0', '^(%d+) ?(%d*)$')
local back = math.max((tonumber(written) or 0) - micros, 0)
local at = math.max(stored - back, micros)
local ahead = at - micros - math.max(burst - n, 0) * interval
local function keep(value)
  local ms = math.ceil((value - micros) / 1000) + 1000
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', value, micros), 'PX', ms)
end
if ahead > 0 then
  if back > 0 then
    keep(at)
  end
  return math.ceil(ahead / 1000)
end
keep(at + n * interval)
return 0
