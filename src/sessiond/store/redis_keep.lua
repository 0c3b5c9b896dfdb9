-- Puts the moment off at which Redis forgets a session that no daemon looks after; takes one that it has forgotten off
-- the lists.
--
-- KEYS  the session, the sessions of its scope, the index of its shard
-- ARGV  session key, time to live (ms)
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 1 then
  redis.call('PEXPIRE', KEYS[2], ARGV[2] * 2)
  return 1
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 0
