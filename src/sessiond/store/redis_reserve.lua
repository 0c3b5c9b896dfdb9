-- Reserves the key of a session, unseen, for as long as it may take to enter the session under its names. Returns OK, or
-- FENCED or CONFLICT as a write does. The write CONFIRM of the same operation creates the session.
--
-- KEYS  the session, the owner of the shard
-- ARGV  epoch, operation, time to live (ms; 0: the reservation is given back)
local epoch, operation, ttl = unpack(ARGV)
if tonumber(redis.call('GET', KEYS[2]) or 0) > tonumber(epoch) then
  return 'FENCED'
end
local known = redis.call('HMGET', KEYS[1], 'revision', 'reserved')
if known[1] or (known[2] and known[2] ~= operation) then
  return 'CONFLICT'
end
if ttl == '0' then
  redis.call('DEL', KEYS[1])
  return 'OK'
end
redis.call('HSET', KEYS[1], 'reserved', operation)
redis.call('PEXPIRE', KEYS[1], ttl)
return 'OK'
