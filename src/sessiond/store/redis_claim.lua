-- Returns the epoch in which a daemon writes.
-- An exclusive daemon begins an epoch of its own; daemons that share go on with the epoch of those that share already.
-- One that has an epoch already puts it back if the server has lost it, and begins none.
--
-- KEYS  the epoch
-- ARGV  mode (exclusive or shared), the epoch that this daemon has (0: none)
local mode, has = ARGV[1], tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'number', 'mode')
local number = tonumber(known[1] or 0)

if has > number then
  number = has
  redis.call('HSET', KEYS[1], 'number', number, 'mode', mode)
elseif has == 0 and (mode == 'exclusive' or known[2] ~= 'shared') then
  number = number + 1
  redis.call('HSET', KEYS[1], 'number', number, 'mode', mode)
end
return number
