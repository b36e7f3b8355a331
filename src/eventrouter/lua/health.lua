-- The health of a destination, over all shards. KEYS er:{dest:NAME}:health, a hash:
--   state ('' or absent: well, 'backoff', 'hold'), until (ms), failures (in a row), reason, since (ms),
--   probing (ms: a probe is under way until then, if it is not renewed), prober (the token of its holder), success (ms: the last one),
--   retry_reason (why deliveries are parked, the last one), suspects (ids of messages refused since, a line each; a few), refusals (all of them),
--   paused (ms): since when an operator holds it, pause_reason: why; it is 'paused' then, whatever its state,
--   written (ms): when the other times were written: they move with a clock that is set back
-- ARGV step and what it takes. Returns state, ms to wait, probe (0/1), last success, reason, failures, refusals, several (0/1).
local key, step = KEYS[1], arg()

local function get(field)
  return redis.call('HGET', key, field)
end
local function get_number(field)
  return tonumber(get(field) or 0)
end

local back = get_number('written') - now
if back > 0 then
  for _, field in ipairs({ 'until', 'since', 'probing', 'success', 'paused', 'written' }) do
    if get_number(field) > 0 then
      redis.call('HINCRBY', key, field, -back)
    end
  end
end
local function set(...)
  redis.call('HSET', key, 'written', now, ...)
end

-- Whether the probe is that of `token`, its lease being over or not.
local function holds(token)
  return get('prober') == token and get('probing') ~= false
end
-- A result comes with the token of its probe, or ''. It is stale when somebody else has the probe since, or something ended it:
-- its holder was frozen, or has other options than the destination has now.
local own, stale, elsewhere = false, false, false
local function told(token)
  own = holds(token)
  stale = (token or '') ~= '' and get('prober') ~= token
  elsewhere = not own and get_number('probing') > now
end
local function end_probe()
  redis.call('HDEL', key, 'probing')
  if not own then  -- else its holder may have more to tell
    redis.call('HDEL', key, 'prober')
  end
end

local function fail(state, delay, reason)
  local till = get_number('until')
  if get('state') == false or get('state') == '' then
    set('since', now)
  end
  if own or (till <= now and not elsewhere) then
    redis.call('HINCRBY', key, 'failures', 1)
  end
  if get('state') ~= 'hold' or state == 'hold' then
    redis.call('HSET', key, 'state', state)
  end
  set('until', math.max(till, now + delay), 'reason', reason)
  if not elsewhere then
    end_probe()
  end
end

local function soon()
  if (get('state') or '') ~= '' then
    redis.call('HSET', key, 'until', 0)
    end_probe()
  end
end

local probe = 0
if step == 'gate' then
  -- ARGV the lease of a probe (ms; 0: only look), its token, and that of a probe which the worker left as it was
  local ms, token, left = number(), arg(), arg()
  local waits = get('paused') or get_number('until') > now or (get_number('probing') > now and not holds(left))
  if ms > 0 and (get('state') or '') ~= '' and not waits then
    set('probing', now + ms, 'prober', token)
    probe = 1
  end
elseif step == 'keep' then
  -- ARGV the lease of a probe (ms), its token. One that is over goes on when nobody has taken another one.
  local ms, token = number(), arg()
  if holds(token) then
    set('probing', now + ms)
    probe = 1
  end
elseif step == 'fail' then
  -- ARGV state, first delay, longest delay, named delay or -1 (ms), a random number in 0..1, reason, probe
  local state, first, longest, named, random, reason = arg(), number(), number(), number(), number(), arg()
  told(arg())
  local together = get_number('until') > now and not own and 1 or 0
  local cap = math.min(longest, first * 2 ^ math.min(math.max(get_number('failures') - together, 0), 40))
  -- What began before somebody's probe knows less than that will.
  if not stale and not (elsewhere and named < 0) then
    fail(state, math.floor(math.max(named >= 0 and named or cap * random, math.min(first, 100))), reason)
  end
elseif step == 'refuse' then
  -- A refusal that may be meant for all (401, 403, …). ARGV message id, delay of a hold's first probe and of the others (ms),
  -- how long a success speaks for the destination (ms), how many messages outweigh it, reason, probe
  local id, soon, later, fresh, enough, reason = arg(), number(), number(), number(), number(), arg()
  told(arg())
  local suspects = get('suspects') or ''
  local different = select(2, string.gsub(suspects, '\n', ''))
  if not stale then
    if different < enough and not string.find('\n' .. suspects, '\n' .. id .. '\n', 1, true) then
      redis.call('HSET', key, 'suspects', suspects .. id .. '\n')
      different = different + 1
    end
    redis.call('HINCRBY', key, 'refusals', 1)
  end
  local convincing = different >= (now - get_number('success') > fresh and 2 or enough)
  if get('state') == 'hold' then
    -- Attempts that were under way together count once.
    if own or (get_number('until') <= now and not elsewhere and not stale) then
      fail('hold', later, reason)
    end
  elseif convincing and not stale then
    fail('hold', soon, reason)
  end
elseif step == 'soon' then
  soon()
elseif step == 'pause' then
  -- ARGV why, or ''. Once more: it is paused since the first time, for the last reason.
  if not get('paused') then
    set('paused', now)
  end
  redis.call('HSET', key, 'pause_reason', arg())
elseif step == 'resume' then
  redis.call('HDEL', key, 'paused', 'pause_reason')
  soon()
elseif step == 'note' then
  -- ARGV why deliveries are tried again one by one
  redis.call('HSET', key, 'retry_reason', arg())
elseif step == 'release' then
  -- ARGV probe
  told(arg())
  if own then
    redis.call('HDEL', key, 'probing', 'prober')
  end
elseif step == 'succeed' then
  -- ARGV probe, or ''
  told(arg())
  if not stale then
    set('success', now)
    redis.call('HDEL', key, 'suspects', 'refusals')
    if get_number('until') <= now then
      redis.call('HDEL', key, 'state', 'until', 'failures', 'reason', 'since')
      end_probe()
    end
  end
end

if get('paused') then
  -- The next look is for what grows too old; `resume` wakes the lanes.
  local why = get('pause_reason') or ''
  why = why == '' and 'paused' or 'paused: ' .. why
  return { 'paused', 30000, probe, get_number('success'), why, get_number('failures'), 0, 0 }
end
local wait = 0
if (get('state') or '') ~= '' and probe == 0 then
  -- Somebody else's probe may end at once: ask again soon.
  wait = math.max(get_number('until') - now, math.min(get_number('probing') - now, 500), step == 'gate' and 50 or 0)
end
return {
  get('state') or '', wait, probe, get_number('success'), get('reason') or '', get_number('failures'),
  stale and 0 or get_number('refusals'), string.find(get('suspects') or '', '\n.') and 1 or 0,
}
