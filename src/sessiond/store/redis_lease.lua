-- Keeps a daemon among those that share the sessions, and says how things are:
--   whether it holds the lease (1 or 0), how many daemons have died so far, whether any has pipelined set up (1 or 0)
--
-- KEYS  the lease: text with the name of its holder
--       the daemons: sorted set by when they are dead unless they renew, ms
--       the facts: hash with the number of the dead, and a field for each daemon that has pipelined set up
--       the wish: text with the name of the daemon that wants the lease
-- ARGV  daemon, for how long (ms), whether it wants the lease (1 or 0), whether it has pipelined set up (1 or 0),
--       whether it leaves (1 or 0)
local lease, daemons, facts, wish = unpack(KEYS)
local daemon, valid, wants, set_up, leaves = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', daemons, '-inf', now)) do
  redis.call('ZREM', daemons, dead)
  redis.call('HDEL', facts, 'set-up:' .. dead)
  if dead ~= daemon then
    redis.call('HINCRBY', facts, 'deaths', 1)
  end
end

local holder = redis.call('GET', lease)
if leaves == '1' then
  redis.call('ZREM', daemons, daemon)
  redis.call('HDEL', facts, 'set-up:' .. daemon)
  if holder == daemon then
    redis.call('DEL', lease)
  end
  return { 0, 0, 0 }
end

redis.call('ZADD', daemons, now + valid, daemon)
if set_up == '1' then
  redis.call('HSET', facts, 'set-up:' .. daemon, 1)
else
  redis.call('HDEL', facts, 'set-up:' .. daemon)
end
if wants == '1' then
  redis.call('SET', wish, daemon, 'PX', valid)
end
local wished = redis.call('GET', wish)
if not holder or holder == daemon then
  if wished and wished ~= daemon then
    redis.call('DEL', lease)
    holder = false
  else
    redis.call('SET', lease, daemon, 'PX', valid)
    holder = daemon
  end
end
local deaths = tonumber(redis.call('HGET', facts, 'deaths') or 0)
local fields = redis.call('HLEN', facts) - (deaths > 0 and 1 or 0)
return { holder == daemon and 1 or 0, deaths, fields > 0 and 1 or 0 }
