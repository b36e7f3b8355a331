-- What all steps share. A lane is named by its stream's key, er:{SHARD}:lane:NAME; everything else of it hangs below that key,
-- everything else of its shard below er:{SHARD}:, so that one step may touch them all, on a Cluster too.
--   KEY            stream: the items, in order. k = lane key (a digest of the order key), n = units in the item, d = data
--   KEY:turn       hash: token (there while the lane is claimed), begun, job, woken (1: after it had begun), taken (1: parked keys),
--                  waiting (units), bytes (of their data)
--   KEY:parked     sorted set: parked lane keys by the time (ms) of their next try
--   KEY:park:K     stream: the items of the parked lane key K, with the ids that they had
--   KEY:tries      hash: item id -> what is known of its attempts (JSON)
--   KEY:pins       hash: batch id -> item ids, for batches that a retry must repeat as they were, with | between the parts that are left
--   er:{S}:leases  sorted set: claimed lanes by the end of their lease (ms)
--   er:{S}:due     sorted set: unclaimed lanes with parked keys, by the next try (ms)
--   er:{S}:counts  hash: the counters of the audit
--   er:{S}:outcomes stream: what became of deliveries lately, each settlement an entry; :end counts the bytes ever written
--   er:{S}:clock   the time (ms) of a sweep in the last seconds
--   er:{S}:failures hash: lane -> when a turn came to nothing last, when the next is due (ms), and the reason
--   er:{S}:seen    list of starts (ms) of the dedup buckets er:{S}:seen:START (sets of event digests), oldest first
--   er:{S}:seen_again  the same for what operators sent again or discarded
--   er:{S}:again   when that was last (ms)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The first of ARGV holds all that is small, as MessagePack: hundreds of arguments would cost the client more than the step does.
-- What is large, or is binary (this decoder has no type for it), follows as it is.
local args = cmsgpack.unpack(ARGV[1])
local cursor, blobs = 0, 1
local function arg()
  cursor = cursor + 1
  return args[cursor]
end
local function number()
  return tonumber(arg())
end
local function blob()
  blobs = blobs + 1
  return ARGV[blobs]
end

local function shard_of(lane)
  return string.match(lane, '^(er:{%d+}:)')
end
local function name_of(lane)
  return string.match(lane, '^er:{%d+}:lane:(.*)$')
end

-- The bytes in use, and maxmemory; 0 when there is no limit.
local function memory()
  local info = redis.call('INFO', 'memory')
  return tonumber(string.match(info, 'used_memory:(%d+)')), tonumber(string.match(info, '[\r\n]maxmemory:(%d+)') or 0)
end

local function lease(lane, ms)
  redis.call('ZADD', shard_of(lane) .. 'leases', now + ms, name_of(lane))
end

-- The parked keys of a lane are due at once.
local function all_due(lane)
  local parked = lane .. ':parked'
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', parked, '(' .. now, '+inf')) do
    redis.call('ZADD', parked, now, key)
  end
end

local function claim(lane, token, short)
  if redis.call('HEXISTS', lane .. ':turn', 'token') == 1 then
    return false
  end
  redis.call('HSET', lane .. ':turn', 'token', token, 'begun', '0')
  redis.call('ZREM', shard_of(lane) .. 'due', name_of(lane))
  lease(lane, short)
  return true
end

local function fenced_off(lane, token)
  return redis.call('HGET', lane .. ':turn', 'token') ~= token
end

local function count(shard, field, by)
  if by ~= 0 then
    redis.call('HINCRBY', shard .. 'counts', field, by)
  end
end

-- The section `appends` of the arguments: short lease, then per lane: number of its key, token, count field, items (k, n; their
-- data are blobs).
-- Returns the lanes that were claimed with it, as a flat list of key and token.
local function appends()
  local claimed = {}
  local short = number()
  for _ = 1, number() do
    local lane, token, field = KEYS[number()], arg(), arg()
    local units, bytes = 0, 0
    for _ = 1, number() do
      local key, n, data = arg(), arg(), blob()
      redis.call('XADD', lane, '*', 'k', key, 'n', n, 'd', data)
      units = units + tonumber(n)
      bytes = bytes + #data
    end
    redis.call('HINCRBY', lane .. ':turn', 'waiting', units)
    redis.call('HINCRBY', lane .. ':turn', 'bytes', bytes)
    if field ~= '' then
      count(shard_of(lane), field, units)
    end
    if claim(lane, token, short) then
      claimed[#claimed + 1] = lane
      claimed[#claimed + 1] = token
    end
  end
  return claimed
end

-- The section `counts`: pairs of field and number.
local function counts(shard)
  for _ = 1, number() do
    local field = arg()
    count(shard, field, number())
  end
end

-- Which of the digests ARGV[first..last] are in the buckets of `key`: 0 or 1 for each.
local function seen_in(key, first, last)
  local seen = {}
  for i = 1, last - first + 1 do
    seen[i] = 0
  end
  for _, start in ipairs(redis.call('LRANGE', key, 0, -1)) do
    for from = first, last, 5000 do
      local flags = redis.call('SMISMEMBER', key .. ':' .. start, unpack(ARGV, from, math.min(from + 4999, last)))
      for i, flag in ipairs(flags) do
        if flag == 1 then
          seen[from - first + i] = 1
        end
      end
    end
  end
  return seen
end

-- Remember the digests ARGV[first..last] for a window (ms); of most of them the oldest buckets are forgotten.
local function remember(key, first, last, window, most)
  local starts = redis.call('LRANGE', key, 0, -1)
  local newest = starts[#starts]
  if not newest or now - newest >= window / 4 or redis.call('SCARD', key .. ':' .. newest) >= most / 4 then
    newest = string.format('%.0f', math.max(now, newest and newest + 1 or 0))
    redis.call('RPUSH', key, newest)
    starts[#starts + 1] = newest
  end
  for from = first, last, 5000 do
    redis.call('SADD', key .. ':' .. newest, unpack(ARGV, from, math.min(from + 4999, last)))
  end
  local total = 0
  for _, start in ipairs(starts) do
    total = total + redis.call('SCARD', key .. ':' .. start)
  end
  while #starts > 1 and (now - starts[2] >= window or total > most) do
    local oldest = key .. ':' .. table.remove(starts, 1)
    total = total - redis.call('SCARD', oldest)
    redis.call('UNLINK', oldest)
    redis.call('LPOP', key)
  end
end
