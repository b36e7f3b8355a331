-- Find dead turns of a shard. Lease over and begun: new token. Lease over and not begun: the same token, for a job that arq still
-- holds must stay valid. And wake unclaimed lanes whose parked keys are due. When the server's clock was set back, whatever waits
-- for a time would wait longer by that: it is moved with the clock, but no nearer than a short lease.
-- KEYS er:{S}:leases. ARGV short lease (ms), everything (1: no worker is alive, so every lease is over), tokens.
-- Returns the lanes to enqueue as a flat list of key, token and the dead turn's arq job ('' if none), and ms until the next one.
local shard = shard_of(KEYS[1])
local short, everything = number(), number()
local found = {}
local spent = 0

local clock = tonumber(redis.call('GET', shard .. 'clock') or 0)
local function move(key)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local at = tonumber(rows[i + 1])
    redis.call('ZADD', key, math.min(at, math.max(at - (clock - now), now + short)), rows[i])
  end
end
if now < clock then
  for _, key in ipairs({ KEYS[1], shard .. 'due' }) do
    for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      move(shard .. 'lane:' .. name .. ':parked')
    end
    move(key)
  end
end
if now < clock or now - clock >= 10000 then
  redis.call('SET', shard .. 'clock', string.format('%.0f', now))
end

local function token()
  spent = spent + 1
  return arg()
end
local tokens = #args - 2
local until_ms = everything == 1 and '+inf' or now
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_ms, 'LIMIT', 0, tokens)) do
  local lane = shard .. 'lane:' .. name
  local turn = redis.call('HMGET', lane .. ':turn', 'token', 'begun', 'job')
  if not turn[1] then
    redis.call('ZREM', KEYS[1], name)
  else
    local present = turn[1]
    if turn[2] == '1' then
      present = token()
      redis.call('HSET', lane .. ':turn', 'token', present, 'begun', '0')
      redis.call('HDEL', lane .. ':turn', 'job')
    end
    lease(lane, short)
    found[#found + 1] = lane
    found[#found + 1] = present
    found[#found + 1] = turn[3] or ''
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', shard .. 'due', '-inf', now, 'LIMIT', 0, tokens - spent)) do
  local lane = shard .. 'lane:' .. name
  local fresh = token()
  redis.call('ZREM', shard .. 'due', name)
  if claim(lane, fresh, short) then
    found[#found + 1] = lane
    found[#found + 1] = fresh
    found[#found + 1] = ''
  end
end
local soonest = -1
for _, key in ipairs({ KEYS[1], shard .. 'due' }) do
  local score = tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
  if score and (soonest < 0 or score - now < soonest) then
    soonest = math.max(score - now, 0)
  end
end
return { found, soonest }
