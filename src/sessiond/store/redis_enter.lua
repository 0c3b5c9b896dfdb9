-- Enters a session under a name, once for an operation. Returns who was entered before it, if that is wanted.
--
-- KEYS  the name
-- ARGV  operation and session key, time to live (ms), whether it is a claim (1 or 0)
local entry, ttl, claim = unpack(ARGV)
if not redis.call('ZSCORE', KEYS[1], entry) then
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', KEYS[1], last + 1, entry)
end
redis.call('PEXPIRE', KEYS[1], ttl)
local rank = redis.call('ZRANK', KEYS[1], entry)
if claim == '0' or rank == 0 then
  return {}
end
return redis.call('ZRANGE', KEYS[1], 0, rank - 1)
