-- Renew the lease of a turn whose attempt takes long. KEYS lane. ARGV token, lease (ms). Returns 1, or 0 when fenced off.
local token = arg()
if fenced_off(KEYS[1], token) then
  return 0
end
lease(KEYS[1], number())
return 1
